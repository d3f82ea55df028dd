/* config.c -- what a source was declared to be.
 * SPDX-License-Identifier: MIT */
#include "capture/config.h"

#include <stdlib.h>

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n_columns; i++)
        free(c->columns[i]);
    for (size_t i = 0; i < c->n_pk; i++)
        free(c->pk[i]);
    free(c->columns);
    free(c->pk);
    free(c->soft_delete);
    free(c->column);
    free(c->conninfo);
    free(c->table);
    free(c->name);
    free(c->where);
    free(c);
}
