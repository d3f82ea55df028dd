/* db_rows.c -- the rows that a server has answered with.
 * SPDX-License-Identifier: MIT */
#include "pg/db_rows.h"

#include <libpq-fe.h>
#include <stdlib.h>

/* struct db_rows is a PGresult under a name that other folders may know. */
static const PGresult *result(const struct db_rows *r)
{
    return (const PGresult *)r;
}

int db_rows_count(const struct db_rows *r)
{
    return PQntuples(result(r));
}

int db_rows_columns(const struct db_rows *r)
{
    return PQnfields(result(r));
}

const char *db_rows_name(const struct db_rows *r, int col)
{
    return PQfname(result(r), col);
}

uint32_t db_rows_type(const struct db_rows *r, int col)
{
    return PQftype(result(r), col);
}

size_t db_rows_length(const struct db_rows *r, int row, int col)
{
    return (size_t)PQgetlength(result(r), row, col);
}

const char *db_rows_text(const struct db_rows *r, int row, int col)
{
    return PQgetisnull(result(r), row, col) ? NULL : PQgetvalue(result(r), row, col);
}

uint64_t db_rows_u64(const struct db_rows *r, int row, int col)
{
    const char *s = db_rows_text(r, row, col);

    return s != NULL ? strtoull(s, NULL, 10) : 0;
}

bool db_rows_bool(const struct db_rows *r, int row, int col)
{
    const char *s = db_rows_text(r, row, col);

    return s != NULL && *s == 't';
}

void db_rows_free(struct db_rows *r)
{
    PQclear((PGresult *)r);
}
