/* nats_flight.c -- what is not answered yet: places, and a hash table of them by lane.
 * SPDX-License-Identifier: MIT */
#include "sinks/nats_flight.h"

#include <stdlib.h>

#define NONE UINT32_MAX

bool nats_flight_init(struct nats_flight *f, uint32_t window)
{
    *f = (struct nats_flight){ .window = window, .n_buckets = 1 };
    while (f->n_buckets < window)
        f->n_buckets *= 2;
    f->places = calloc(window, sizeof *f->places);
    f->buckets = malloc(f->n_buckets * sizeof *f->buckets);
    if (f->places == NULL || f->buckets == NULL)
        return false;
    for (uint32_t i = 0; i < window; i++)
        f->places[i].next = i + 1 < window ? i + 1 : NONE;
    for (uint32_t i = 0; i < f->n_buckets; i++)
        f->buckets[i] = NONE;
    return true;
}

void nats_flight_fini(struct nats_flight *f)
{
    free(f->places);
    free(f->buckets);
}

static uint32_t *bucket_of(const struct nats_flight *f, uint64_t lane)
{
    lane ^= lane >> 32;
    return &f->buckets[(lane ^ lane >> 16) & (f->n_buckets - 1)];
}

bool nats_flight_has_lane(const struct nats_flight *f, uint64_t lane)
{
    for (uint32_t i = *bucket_of(f, lane); i != NONE; i = f->places[i].next)
        if (f->places[i].lane == lane)
            return true;
    return false;
}

uint64_t nats_flight_add(struct nats_flight *f, int64_t number, uint64_t lane, size_t bytes)
{
    uint32_t i = f->free_place, *bucket = bucket_of(f, lane);
    struct nats_flight_place *s = &f->places[i];

    f->free_place = s->next;
    s->serial = ++f->turn * f->window + i;
    s->number = number;
    s->lane = lane;
    s->bytes = bytes;
    s->next = *bucket;
    *bucket = i;
    f->count++;
    f->bytes += bytes;
    return s->serial;
}

bool nats_flight_remove(struct nats_flight *f, uint64_t serial, int64_t *number)
{
    uint32_t i = (uint32_t)(serial % f->window), *at;
    struct nats_flight_place *s = &f->places[i];

    if (s->serial != serial || serial == 0)
        return false;
    for (at = bucket_of(f, s->lane); *at != i;)
        at = &f->places[*at].next;
    *at = s->next;
    f->count--;
    f->bytes -= s->bytes;
    *number = s->number;
    s->serial = 0;
    s->next = f->free_place;
    f->free_place = i;
    return true;
}
