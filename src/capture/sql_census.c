/* sql_census.c -- the SQL that counts keys.
 * SPDX-License-Identifier: MIT */
#include "capture/sql_census.h"

#include <string.h>

/* True if the key is a single number, of a type that sql_put_hash hashes as such. */
static bool is_number(const struct rowtype *t)
{
    static const char *const types[] = { "bigint", "integer", "smallint" };

    for (size_t i = 0; t->n_key == 1 && i < sizeof types / sizeof *types; i++)
        if (strcmp(t->columns[t->key[0]].type, types[i]) == 0)
            return true;
    return false;
}

void sql_census_tally(struct buf *b, const struct sql_query *q, unsigned width,
                      const struct position *p)
{
    const struct rowtype *t = q->rowtype;
    unsigned n = TALLY_BUCKETS / width; /* a power of two */

    /* the number of a bucket is the upper bits and their sign, which whoever reads it takes off */
    buf_printf(b, "COPY (SELECT h >> %d, count(*), bit_xor(h), %s FROM (SELECT ",
               64 - __builtin_ctz(n), p != NULL ? "count(*) FILTER (WHERE is_new)" : "0");
    sql_put_hash(b, q, q->table->name);
    buf_puts(b, " AS h");
    if (p != NULL) {
        buf_puts(b, ", ");
        sql_put_new(b, q, p->horizon.floor);
        buf_puts(b, " AS is_new");
    }
    sql_put_from_all(b, q);
    /* OFFSET 0: computed once, not for each use; but a number's hash is quicker than a subquery */
    buf_puts(b, is_number(t) ? "" : " OFFSET 0");
    buf_puts(b, ") AS hashes GROUP BY 1) TO STDOUT");
}
