/* filling.c -- fills a store with records and rows that come from elsewhere, one after the other.
 * SPDX-License-Identifier: MIT */
#include "state/filling.h"

#include <stdio.h>
#include <string.h>

bool filling_add_record(struct filling *f, const struct store_record *r, struct err *e)
{
    return store_put(f->to, r, e);
}

bool filling_end_table(struct filling *f, struct err *e)
{
    return f->table == NULL || kept_table_flush(f->table, e);
}

bool filling_add_row(struct filling *f, const char *table, const struct kept_row *r, struct err *e)
{
    if (f->table == NULL || strcmp(f->name, table) != 0) {
        if (!filling_end_table(f, e))
            return false;
        kept_table_close(f->table);
        snprintf(f->name, sizeof f->name, "%s", table);
        f->table = kept_table_open(f->to, f->name, e);
    }
    f->rows++;
    return f->table != NULL && kept_table_put(f->table, r, e);
}

void filling_fini(struct filling *f)
{
    kept_table_close(f->table);
    f->table = NULL;
}
