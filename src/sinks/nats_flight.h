/* nats_flight.h -- messages that were published and are not answered yet.
 *
 * Each has a serial, which its answer names, and a lane, of which one is on its way at a time.
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATS_FLIGHT_H
#define NATS_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nats_flight_place {
    uint64_t serial; /* 0: the place is free */
    uint64_t lane;
    int64_t number;
    size_t bytes;
    uint32_t next; /* free place, or one of the same bucket */
};

struct nats_flight {
    uint32_t window, count; /* how many there can be; how many there are */
    size_t bytes;           /* of those that there are */
    uint32_t n_buckets, *buckets, free_place;
    struct nats_flight_place *places;
    uint64_t turn;
};

/* Returns false without memory. To be freed in any case. */
bool nats_flight_init(struct nats_flight *f, uint32_t window);
void nats_flight_fini(struct nats_flight *f);

bool nats_flight_has_lane(const struct nats_flight *f, uint64_t lane);

/* Adds one; there is room. Returns its serial, which no other one has had, and is not 0. */
uint64_t nats_flight_add(struct nats_flight *f, int64_t number, uint64_t lane, size_t bytes);

/* It is answered. Returns false if there is none of that serial, else sets *number. */
bool nats_flight_remove(struct nats_flight *f, uint64_t serial, int64_t *number);

#endif
