/* db.h -- one connection to a Postgres server.                        floor 1
 *
 * The only room that knows libpq. Every call blocks, but never past the
 * moment when <stop_fd> (given to `db_open`) becomes readable: then it returns
 * an ERR_STOPPED. Does not retry and does not reconnect: after an
 * ERR_CONNECTION the connection is good for `db_close` only.
 *
 * A connection belongs to one thread at a time. Needs libpq 14 or later.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DB_H
#define DB_H

#include "err.h"

#include <stddef.h>
#include <stdint.h>

struct db;
struct db_rows;

/* Connects. <conninfo>: a conninfo string, a URI or the name of a database;
 * "" leaves all to libpq's environment. Returns an owned connection, or NULL
 * with ERR_USAGE (cannot be parsed), ERR_CONNECTION (nobody there) or ERR_SQL
 * (the server refused; sqlstate says why). */
struct db *db_open(const char *conninfo, int stop_fd, struct err *e);
void db_close(struct db *db);

/* The server's version as a number: 150018 is 15.18. */
int db_version(const struct db *db);

/* Runs <sql>, one statement or several. The first <n> results that are rows
 * are stored in <rows> in order (owned by the caller, even after a failure;
 * <rows> must hold NULLs before), further ones are dropped. */
bool db_run(struct db *db, const char *sql, struct db_rows **rows, size_t n,
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

/* Results. Values are text, borrowed, valid until the rows are freed. */
int db_rows_count(const struct db_rows *r);
const char *db_rows_text(const struct db_rows *r, int row, int col); /* NULL for NULL */
uint64_t db_rows_u64(const struct db_rows *r, int row, int col);     /* 0 for NULL */
bool db_rows_bool(const struct db_rows *r, int row, int col);        /* false for NULL */
void db_rows_free(struct db_rows *r);

#endif
