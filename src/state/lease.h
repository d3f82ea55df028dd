/* lease.h -- keeps a pipeline in a state's database ours, see database.h.
 *
 * A thread of its own renews the lease, each third of its time, over a connection of its own. The
 * database's clock alone says when a lease ends; ours counts only how long ago it was renewed.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LEASE_H
#define LEASE_H

#include "state/lease_row.h"

struct lease;

struct lease_options {
    const char *conninfo; /* the texts are borrowed until lease_free */
    struct lease_row_claim claim;
    uint64_t epoch;       /* that the lease was taken with */
    struct role *role;    /* borrowed; is told who waits */
};

/* Begins. The lease was taken not longer ago than <taken_ms>, by clock_boot_ms. Returns owned, or
 * NULL. */
struct lease *lease_new(const struct lease_options *o, int64_t taken_ms, struct err *e);

/* Ends the thread. Takes NULL too. */
void lease_free(struct lease *l);

enum lease_hold {
    LEASE_SURE,   /* nobody else can have it: it was renewed less than two thirds of its time ago */
    LEASE_UNSURE, /* it may end before it is renewed */
    LEASE_LOST,   /* another process has taken it, or nobody has it */
};

/* Any thread may ask. */
enum lease_hold lease_hold(const struct lease *l);

#endif
