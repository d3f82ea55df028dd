/* db.h -- one connection to a Postgres server.
 *
 * Every call blocks: as long as the server is at work for it, which is found
 * out in time (see liveness.h), but not past the moment when <stop_fd> (given to
 * `db_open`) becomes readable. Does not retry and does not reconnect: after an
 * ERR_CONNECTION the connection is good for `db_close` only.
 *
 * A connection belongs to one thread at a time. Needs libpq 14 or later.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DB_H
#define DB_H

#include "pg/result.h"
#include "pg/connect.h"

#include <stddef.h>
#include <stdint.h>

struct db;

/* What becomes of a wait when <stop_fd> can be read (-1: it never can). */
enum db_stop {
    DB_STOP_AT_ONCE, /* it ends with an ERR_STOPPED */
    DB_STOP_GENTLY,  /* it goes on while the server is at work; a dead one is noticed in 10 s */
};

/* Connects. <conninfo>: a conninfo string, a URI or the name of a database;
 * "" leaves all to libpq's environment. <left>, or NULL: what db_close has
 * noted, which is then ended at the server and forgotten. Returns an owned
 * connection, or NULL with ERR_USAGE (cannot be parsed), ERR_CONNECTION
 * (nobody there) or ERR_SQL (the server refused; sqlstate says why). */
struct db *db_open(const char *conninfo, int stop_fd, enum db_stop on_stop, struct connect_orphan *left,
                   struct err *e);

/* A statement that is still under way is ended at the server, where that can be done within two
 * seconds. <left>, or NULL: notes a backend that may go on, since it cannot be told that we are
 * gone. */
void db_close(struct db *db, struct connect_orphan *left);

/* How long a connection may be silent before it is asked about: keepalives_idle. */
int64_t db_patience_ms(const struct db *db);

/* The server's version as a number: 150018 is 15.18. */
int db_version(const struct db *db);

/* Runs <sql>, one statement or several. The first <n> results that are rows
 * are stored in <rows> in order (owned by the caller, even after a failure;
 * <rows> must hold NULLs before), further ones are dropped. */
bool db_run(struct db *db, const char *sql, struct result **rows, size_t n,
            struct err *e) WARN_UNUSED;

/* Ends whatever transaction is open. A failure only means that the
 * connection is lost, which the next call reports. */
void db_rollback(struct db *db);

/* Starts a COPY ... TO STDOUT. Until db_copy_next said DB_COPY_END or
 * DB_COPY_FAILED nothing else may be run. */
bool db_copy(struct db *db, const char *sql, struct err *e) WARN_UNUSED;

enum db_copy { DB_COPY_ROW, DB_COPY_END, DB_COPY_FAILED };

/* The next row: <len> bytes in COPY's text format, without the newline, valid
 * until the next call on <db>. */
enum db_copy db_copy_next(struct db *db, const char **row, size_t *len, struct err *e);

/* Hands the server <sql> with <n> parameters, which are text, NULL for NULL; their types are the
 * server's to find out. Without any it may be several statements, of which the last counts. Does
 * not wait for what becomes of it: until db_answer has told nothing else may be run. */
bool db_send(struct db *db, const char *sql, const char *const *params, size_t n,
             struct err *e) WARN_UNUSED;

/* Waits for the answer to what was sent. *rows (owned, never NULL on success) is it, of which
 * result_columns is 0 where it has no rows; *affected is how many rows the statement read or
 * changed. Refuses COPY, after which the connection is good for db_close only (ERR_CONNECTION). */
bool db_answer(struct db *db, struct result **rows, uint64_t *affected,
               struct err *e) WARN_UNUSED;

/* Finds out the types of the parameters of <sql>, at most <max>; *n is how many there are. */
bool db_describe(struct db *db, const char *sql, uint32_t *types, size_t max, size_t *n,
                 struct err *e) WARN_UNUSED;

/* False if the server is known to have closed the connection. Does not wait. */
bool db_is_alive(struct db *db);

/* Waits for a notification on a channel that was LISTENed to. <text>: what it says, at most <size>
 * bytes; empty when none came before <deadline_ms> (clock_mono_ms; < 0: none). */
bool db_wait_notify(struct db *db, int64_t deadline_ms, char *text, size_t size,
                    struct err *e) WARN_UNUSED;

/* Whether a transaction is open, and whether it has failed, so that it can be rolled back only.
 * DB_LOST: there is no telling. */
enum db_transaction { DB_IDLE, DB_OPEN, DB_ABORTED, DB_LOST };
enum db_transaction db_transaction(const struct db *db);

/* COPY ... FROM STDIN: begin, then any number of pieces of COPY's text format, then the end,
 * which says whether all of it was taken. When a piece fails the connection is lost. Nothing
 * else may be run in between. */
bool db_load(struct db *db, const char *sql, struct err *e) WARN_UNUSED;
bool db_load_put(struct db *db, const char *data, size_t len, struct err *e) WARN_UNUSED;
bool db_load_end(struct db *db, uint64_t *rows, struct err *e) WARN_UNUSED;

#endif
