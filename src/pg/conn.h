/* conn.h -- one connection to a Postgres server.
 *
 * Every call blocks as long as the server is at work for it; a server that is not
 * is noticed in time (see liveness.h). It blocks no longer than until <stop_fd>, given
 * to conn_open, becomes readable. Does not retry and does not reconnect: after an
 * ERR_CONNECTION nothing but conn_close may be called.
 *
 * A connection belongs to one thread at a time. Needs libpq 14 or later.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONN_H
#define CONN_H

#include "pg/result.h"
#include "pg/connect.h"

#include <stddef.h>
#include <stdint.h>

struct conn;

/* What becomes of a wait when <stop_fd> can be read (-1: it never can). */
enum conn_stop {
    CONN_STOP_AT_ONCE, /* it ends with an ERR_STOPPED */
    CONN_STOP_GENTLY,  /* it goes on while the server is at work; a dead one is noticed in 10 s */
};

/* Connects. <conninfo>: a conninfo string, a URI or the name of a database;
 * "" leaves all to libpq's environment. <left>, or NULL: the backend that
 * conn_close has set there is ended at the server, and forgotten. Returns an owned
 * connection, or NULL with ERR_USAGE (<conninfo> cannot be read), ERR_CONNECTION
 * (nothing answers), ERR_SQL (the server refused; sqlstate says why), ERR_STOPPED
 * or ERR_MEMORY. */
struct conn *conn_open(const char *conninfo, int stop_fd, enum conn_stop on_stop,
                       struct connect_orphan *left, struct err *e);

/* Ends a statement that is still under way at the server, if that can be done within two seconds.
 * <left>, or NULL: is set to the backend if it may go on, because it could not be reached. */
void conn_close(struct conn *c, struct connect_orphan *left);

/* How long the server may be silent before it is asked what it does: keepalives_idle. */
int64_t conn_patience_ms(const struct conn *c);

/* The server's version as a number: 150018 is 15.18. */
int conn_version(const struct conn *c);

/* Runs <sql>, one statement or several. The first <n> results that have rows
 * are stored in <rows> in order, owned by the caller, even after a failure (<rows>
 * must hold NULLs before); further ones are dropped. */
bool conn_run(struct conn *c, const char *sql, struct result **rows, size_t n,
              struct err *e) WARN_UNUSED;

/* Ends the transaction that is open, if there is one. If that fails the connection
 * is lost, which the next call reports. */
void conn_rollback(struct conn *c);

/* Starts a COPY ... TO STDOUT. Nothing else may be run until conn_copy_next has
 * returned CONN_COPY_END or CONN_COPY_FAILED. */
bool conn_copy(struct conn *c, const char *sql, struct err *e) WARN_UNUSED;

enum conn_copy { CONN_COPY_ROW, CONN_COPY_END, CONN_COPY_FAILED };

/* The next line: <len> bytes in COPY's text format, without the newline, valid
 * until the next call on <c>. */
enum conn_copy conn_copy_next(struct conn *c, const char **row, size_t *len, struct err *e);

/* Sends <sql> with <n> parameters, which are text, NULL for NULL; the server finds out their types.
 * Without parameters it may be several statements, of which the last counts. Does not wait for the
 * answer; nothing else may be run until conn_answer has returned it. */
bool conn_send(struct conn *c, const char *sql, const char *const *params, size_t n,
               struct err *e) WARN_UNUSED;

/* Waits for the answer to what was sent: *rows, owned and never NULL on success, of which
 * result_columns is 0 if the statement returns no rows; *affected is how many rows it read or
 * changed. Refuses COPY with ERR_SQL, after which nothing but conn_close may be called. */
bool conn_answer(struct conn *c, struct result **rows, uint64_t *affected,
                 struct err *e) WARN_UNUSED;

/* Finds out the types of the parameters of <sql>, at most <max>; *n is how many there are. */
bool conn_describe(struct conn *c, const char *sql, uint32_t *types, size_t max, size_t *n,
                   struct err *e) WARN_UNUSED;

/* False if the server has closed the connection, or has said that it will. Does not wait. */
bool conn_is_alive(struct conn *c);

/* Waits for a notification on a channel that was LISTENed to. <text>: its payload, at most <size>
 * bytes; empty if none came before <deadline_ms> (by clock_mono_ms; < 0: there is none). */
bool conn_wait_notify(struct conn *c, int64_t deadline_ms, char *text, size_t size,
                      struct err *e) WARN_UNUSED;

/* Whether a transaction is open, or open and failed, so that it can only be rolled back.
 * CONN_LOST: that is unknown. */
enum conn_transaction { CONN_IDLE, CONN_OPEN, CONN_ABORTED, CONN_LOST };
enum conn_transaction conn_transaction(const struct conn *c);

/* COPY ... FROM STDIN: the statement, then any number of pieces of COPY's text format, then the
 * end, which tells whether the server took all of it. After a piece that failed the connection is
 * lost. Nothing else may be run in between. */
bool conn_load(struct conn *c, const char *sql, struct err *e) WARN_UNUSED;
bool conn_load_put(struct conn *c, const char *data, size_t len, struct err *e) WARN_UNUSED;
bool conn_load_end(struct conn *c, uint64_t *rows, struct err *e) WARN_UNUSED;

#endif
