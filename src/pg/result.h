/* result.h -- the rows that a server has answered with, checked.
 *
 * Whoever asks says what the answer must be: a struct result_shape. A row is held against it when
 * it comes, so what reads a result need not check anything: a value that cannot be NULL is not,
 * and a number is one. A value is read as the kind that the shape names; anything else is a bug.
 *
 * A result is owned by the caller of conn_run or conn_answer. Texts are borrowed, valid
 * until it is freed. Rows and columns count from 0.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RESULT_H
#define RESULT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct result;
struct pg_result; /* libpq's PGresult */

/* What an answer must be. <columns> has a letter for each: t text, c text of one byte, b a boolean,
 * i a number of 64 bits with a sign, u one without, o one of 32 bits without. A capital letter: the
 * value may be NULL. */
struct result_shape {
    const char *what; /* for an error: "the columns of the table" */
    const char *columns;
    size_t least, most; /* rows */
};

#define RESULT_MANY ((size_t)10000000)        /* no limit but the next one */
#define RESULT_BYTES_MAX ((size_t)256 << 20)  /* of an answer to a question of ours */

size_t result_count(const struct result *r); /* of rows */

const char *result_text(const struct result *r, size_t row, size_t col); /* t, c; NULL for NULL */
uint64_t result_u64(const struct result *r, size_t row, size_t col);     /* u, o; 0 for NULL */
uint32_t result_u32(const struct result *r, size_t row, size_t col);     /* o; 0 for NULL */
bool result_i64(const struct result *r, size_t row, size_t col, int64_t *n); /* i; false for NULL */
bool result_bool(const struct result *r, size_t row, size_t col);        /* b; false for NULL */
void result_free(struct result *r);                                      /* takes NULL too */

/* Of an answer to somebody else's statement, which may be anything: one without a shape. */
size_t result_columns(const struct result *r);
const char *result_name(const struct result *r, size_t col);
uint32_t result_type(const struct result *r, size_t col); /* an oid; a domain's base */
const char *result_value(const struct result *r, size_t row, size_t col, size_t *len);

/* ---- for pg/conn, which fills them ---- */

/* A result without rows. <shape>, copied, or NULL: any. <max>: the bytes that all of its rows may
 * take. Returns owned, or NULL with ERR_MEMORY. */
struct result *result_new(const struct result_shape *shape, size_t max, struct err *e);

/* Adds the rows of <res>. False, with ERR_ANSWER, if they are not of the shape, or too many. */
bool result_add(struct result *r, const struct pg_result *res, struct err *e) WARN_UNUSED;

/* All rows are there; takes <res>, which says what columns they have. False, with ERR_ANSWER, if
 * there are too few. */
bool result_end(struct result *r, struct pg_result *res, struct err *e) WARN_UNUSED;

#endif
