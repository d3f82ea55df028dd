/* config.c -- what a source was declared to be.
 * SPDX-License-Identifier: MIT */
#include "capture/config.h"

#include "base/hash.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_STEPS 6 /* an adaptive interval begins at least at max / 2^this */

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
    free(c->slot);
    free(c->publication);
    free(c->slot_conninfo);
    free(c->conninfo);
    free(c->table);
    free(c->name);
    free(c->where);
    free(c);
}

bool config_tells_deletes(const struct config *c)
{
    return c->capture == CONFIG_BY_TRIGGER || c->capture == CONFIG_BY_LOGICAL;
}

bool config_share_log(const struct config *a, const struct config *b)
{
    return a->capture == CONFIG_BY_LOGICAL && b->capture == CONFIG_BY_LOGICAL &&
           strcmp(a->slot, b->slot) == 0 && strcmp(a->conninfo, b->conninfo) == 0;
}

int64_t config_next_interval(const struct config *c, int64_t interval_ms, bool had_rows)
{
    int64_t min = c->interval_min_ms, max = c->interval_max_ms;
    int64_t least = max >> BUSY_STEPS;
    int64_t next = interval_ms + (interval_ms > least ? interval_ms : least);

    return had_rows ? min : next < max ? next : max;
}

/* The server cuts names of connections at 63 bytes, and replaces what is not ASCII. */
void config_lead(struct config *c, const char *pipeline, uint64_t epoch)
{
    uint64_t hash;

    c->epoch = epoch;
    if (epoch == 0)
        return;
    hash = hash_bytes(HASH_START, pipeline, strlen(pipeline));
    snprintf(c->holder, sizeof c->holder, "pgcdc-lua %.20s %08" PRIx32 " ", pipeline,
             (uint32_t)(hash ^ hash >> 32));
    for (char *p = c->holder; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && strchr(" -_.", *p) == NULL)
            *p = '_';
}
