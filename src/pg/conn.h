/* conn.h -- one connection to a Postgres server.
 *
 * A call blocks as long as the server is at work for it; a server that is not is noticed
 * in time (see liveness.h). What happens to a call that blocks when <stop_fd>, given to
 * conn_open, becomes readable is told by enum conn_stop. Nothing is tried again, and a lost
 * connection stays lost: after ERR_CONNECTION, ERR_ANSWER or ERR_STOPPED no statement may be
 * run. What may be called then: conn_close, conn_rollback (which does nothing), conn_transaction.
 *
 * A connection belongs to one thread at a time. Needs libpq 14 or later.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CONN_H
#define CONN_H

#include "pg/result.h"
#include "base/beat.h"
#include "pg/connect.h"
#include "pg/liveness.h"

#include <stddef.h>
#include <stdint.h>

struct conn;

/* What happens to a call that blocks when <stop_fd> becomes readable (-1: it never does). */
enum conn_stop {
    CONN_STOP_AT_ONCE, /* it fails with ERR_STOPPED */
    CONN_STOP_GENTLY,  /* it goes on while the server shows that it is at work, for 15 s at most */
};

/* Connects. <conninfo>, copied: a conninfo string, a URI or the name of a database;
 * "" leaves all to libpq's environment. <left>, or NULL: if an earlier conn_close has
 * set it to a backend, that is ended at the server, and <left> becomes empty. Returns an
 * owned connection, or NULL with ERR_USAGE (<conninfo>
 * cannot be read), ERR_CONNECTION (nothing answers), ERR_SQL (the server refused;
 * sqlstate says why), ERR_STOPPED, ERR_MEMORY or ERR_INTERNAL. */
struct conn *conn_open(const char *conninfo, int stop_fd, enum conn_stop on_stop,
                       struct connect_orphan *left, struct err *e);

/* Another connection like <c>, by <conninfo>, or where that is NULL by the one of <c>; it also
 * takes commands of replication, see replication.h. Who watches <c> watches it. */
struct conn *conn_open_replication(const struct conn *c, const char *conninfo,
                                   struct connect_orphan *left, struct err *e);

/* The calls that follow do this when <stop_fd> becomes readable. */
void conn_on_stop(struct conn *c, enum conn_stop on_stop);

/* Closes and frees; takes NULL too. Ends a statement that is still under way at the server, and may
 * block two seconds for that. <left>, or NULL: is set to the backend if that may still run a
 * statement or hold a transaction open. */
void conn_close(struct conn *c, struct connect_orphan *left);

/* A call has waited for the server for 5 s, or, <is_over>, that wait has ended. <text>: a sentence
 * without its subject, borrowed. */
struct conn_wait {
    enum liveness_work work;
    bool is_over;
    const char *text;
};
typedef void conn_watcher(void *arg, const struct conn_wait *w);

/* From now on calls that wait for long tell <watcher>, once when that begins and once when it is
 * over. It must not use <c>. <arg> is borrowed until the next call of conn_watch, or conn_close. */
void conn_watch(struct conn *c, conn_watcher *watcher, void *arg);

/* From now on calls that wait tell <beat> so; it is borrowed until conn_close. */
void conn_set_beat(struct conn *c, struct beat *beat);

/* What conn_open was given. */
int conn_stop_fd(const struct conn *c);

/* How many milliseconds the server may be silent before it is asked whether it is at work:
 * keepalives_idle. */
int64_t conn_patience_ms(const struct conn *c);

/* The database and the role of the connection. Borrowed. */
const char *conn_database(const struct conn *c);
const char *conn_role(const struct conn *c);

/* The server's version as a number: 150018 is 15.18. */
int conn_version(const struct conn *c);

/* Runs <sql>, one statement or several, to its end. The first <n> results of statements
 * that return rows are stored in <rows> in order, each of its shape; further ones are dropped.
 * <rows> must hold NULLs before. The caller owns what is in it, also after a failure. False with
 * ERR_SQL if a statement failed, ERR_ANSWER if the answer is another one: then the connection
 * counts as lost. */
bool conn_run(struct conn *c, const char *sql, const struct result_shape *shapes,
              struct result **rows, size_t n, struct err *e) WARN_UNUSED;

/* Rolls back the transaction that is open, if there is one. If that fails the connection
 * is lost, which the next call reports. */
void conn_rollback(struct conn *c);

/* Starts a COPY ... TO STDOUT. Nothing else may be run until conn_copy_next has
 * returned CONN_COPY_END or CONN_COPY_FAILED. */
bool conn_copy(struct conn *c, const char *sql, struct err *e) WARN_UNUSED;

/* The same for a statement that both sides send after, see replication.h, which does so. */
bool conn_copy_both(struct conn *c, const char *sql, struct err *e) WARN_UNUSED;
struct wire *conn_wire(struct conn *c);

enum conn_copy { CONN_COPY_LINE, CONN_COPY_END, CONN_COPY_FAILED };

/* Waits for the next line. CONN_COPY_LINE: sets *line to <len> bytes in COPY's text format,
 * without the newline, borrowed, valid until the next call on <c>. CONN_COPY_END: there are
 * no more lines. CONN_COPY_FAILED: with <e>, ERR_SQL if the statement failed. */
enum conn_copy conn_copy_next(struct conn *c, const char **line, size_t *len, struct err *e);

/* To be called when a line is not one that the COPY can have. If <e> is ERR_ANSWER, puts the
 * beginning of the statement before its text, and the connection counts as lost. Returns false. */
bool conn_fail_answer(struct conn *c, struct err *e);

/* Sends <sql> with <n> parameters, which are text, NULL for NULL; the server finds out their types.
 * Without parameters it may be several statements; conn_answer returns the result of the last.
 * Blocks until all is sent, but not for the answer. Nothing else may be run before conn_answer. */
bool conn_send(struct conn *c, const char *sql, const char *const *params, size_t n,
               struct err *e) WARN_UNUSED;

/* Waits for the answer to conn_send. True: *rows, which was NULL, is the result, owned, never NULL,
 * with no columns (see result_columns) if the statement returns no rows; *affected is how many rows
 * it read or changed. False with ERR_SQL if it failed, ERR_ANSWER if its rows take more than <max>
 * bytes. A COPY fails with ERR_SQL, and then the connection is closed, as after ERR_CONNECTION. */
bool conn_answer(struct conn *c, size_t max, struct result **rows, uint64_t *affected,
                 struct err *e) WARN_UNUSED;

/* True if something has come since conn_send, as a rule the answer. Does not block. */
bool conn_has_answer(const struct conn *c);

/* Asks the server for the types of the parameters of <sql>, which is one statement. <types>: the
 * oids of the first <max>. *n: how many parameters there are, which may be more than <max>. */
bool conn_describe(struct conn *c, const char *sql, uint32_t *types, size_t max, size_t *n,
                   struct err *e) WARN_UNUSED;

/* False if the server has closed the connection, or has said that it will. For a connection on
 * which no statement runs. Does not block. */
bool conn_is_alive(struct conn *c);

/* Waits for a notification, after a LISTEN. Writes its payload into <text>, of <size> bytes, cut to
 * fit, with a NUL. If none comes before <deadline_ms> (by clock_mono_ms; < 0: no deadline) it
 * returns true with an empty <text>. */
bool conn_wait_notify(struct conn *c, int64_t deadline_ms, char *text, size_t size,
                      struct err *e) WARN_UNUSED;

enum conn_transaction {
    CONN_IDLE,    /* no transaction is open */
    CONN_OPEN,
    CONN_ABORTED, /* it has failed, so that it can only be rolled back */
    CONN_LOST,    /* unknown: the connection is lost, or a statement is under way */
};
enum conn_transaction conn_transaction(const struct conn *c);

/* COPY ... FROM STDIN: conn_load runs the statement, conn_load_put sends a piece of COPY's text
 * format, any number of times, and conn_load_end ends it: true if the server took all rows, with
 * their number in *rows, else false with ERR_SQL, whose text names the line. A piece may end within
 * a line. After a piece that failed the connection is lost. Nothing else may be run in between. */
bool conn_load(struct conn *c, const char *sql, struct err *e) WARN_UNUSED;
bool conn_load_put(struct conn *c, const char *data, size_t len, struct err *e) WARN_UNUSED;
bool conn_load_end(struct conn *c, uint64_t *rows, struct err *e) WARN_UNUSED;

#endif
