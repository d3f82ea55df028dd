/* result.c -- the rows that a server has answered with.
 * SPDX-License-Identifier: MIT */
#include "pg/result.h"

#include "base/text.h"

#include <libpq-fe.h>

/* struct result is a PGresult under a name that other folders may know. */
static const PGresult *result(const struct result *r)
{
    return (const PGresult *)r;
}

int result_count(const struct result *r)
{
    return PQntuples(result(r));
}

int result_columns(const struct result *r)
{
    return PQnfields(result(r));
}

const char *result_name(const struct result *r, int col)
{
    return PQfname(result(r), col);
}

uint32_t result_type(const struct result *r, int col)
{
    return PQftype(result(r), col);
}

size_t result_length(const struct result *r, int row, int col)
{
    return (size_t)PQgetlength(result(r), row, col);
}

const char *result_text(const struct result *r, int row, int col)
{
    return PQgetisnull(result(r), row, col) ? NULL : PQgetvalue(result(r), row, col);
}

uint64_t result_u64(const struct result *r, int row, int col)
{
    const char *s = result_text(r, row, col);
    uint64_t n = 0;

    if (s != NULL)
        text_is_u64(s, &n);
    return n;
}

bool result_bool(const struct result *r, int row, int col)
{
    const char *s = result_text(r, row, col);

    return s != NULL && *s == 't';
}

void result_free(struct result *r)
{
    PQclear((PGresult *)r);
}
