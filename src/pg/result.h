/* result.h -- the rows that a server has answered with.
 *
 * Values are text, borrowed, valid until the rows are freed. Rows and columns
 * count from 0.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RESULT_H
#define RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct result;

int result_count(const struct result *r);
int result_columns(const struct result *r);
const char *result_name(const struct result *r, int col);
uint32_t result_type(const struct result *r, int col); /* an oid; a domain's base */
size_t result_length(const struct result *r, int row, int col);
const char *result_text(const struct result *r, int row, int col); /* NULL for NULL */
uint64_t result_u64(const struct result *r, int row, int col);     /* 0 for NULL */
bool result_bool(const struct result *r, int row, int col);        /* false for NULL */
void result_free(struct result *r);

#endif
