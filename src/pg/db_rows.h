/* db_rows.h -- the rows that a server has answered with.
 *
 * Values are text, borrowed, valid until the rows are freed. Rows and columns
 * count from 0.
 *
 * SPDX-License-Identifier: MIT */
#ifndef DB_ROWS_H
#define DB_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db_rows;

int db_rows_count(const struct db_rows *r);
int db_rows_columns(const struct db_rows *r);
const char *db_rows_name(const struct db_rows *r, int col);
uint32_t db_rows_type(const struct db_rows *r, int col); /* an oid; a domain's base */
size_t db_rows_length(const struct db_rows *r, int row, int col);
const char *db_rows_text(const struct db_rows *r, int row, int col); /* NULL for NULL */
uint64_t db_rows_u64(const struct db_rows *r, int row, int col);     /* 0 for NULL */
bool db_rows_bool(const struct db_rows *r, int row, int col);        /* false for NULL */
void db_rows_free(struct db_rows *r);

#endif
