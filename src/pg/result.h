/* result.h -- the rows that a server has answered with.
 *
 * A result is owned by the caller of conn_run or conn_answer. Texts are borrowed, valid
 * until it is freed. Rows and columns count from 0.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RESULT_H
#define RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct result;

int result_count(const struct result *r); /* of rows */
int result_columns(const struct result *r);
const char *result_name(const struct result *r, int col);
uint32_t result_type(const struct result *r, int col);             /* an oid; a domain's base */
size_t result_length(const struct result *r, int row, int col);    /* in bytes; 0 for NULL */
const char *result_text(const struct result *r, int row, int col); /* NULL for NULL */
uint64_t result_u64(const struct result *r, int row, int col);     /* 0 for NULL */
bool result_bool(const struct result *r, int row, int col);        /* false for NULL */
void result_free(struct result *r);                                /* takes NULL too */

#endif
