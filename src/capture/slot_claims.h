/* slot_claims.h -- what of the log the sources of a slot still need.
 *
 * A source's claim is the LSN of its saved position: what commits from there on it needs. The
 * server may forget what is before the least claim, and nothing else. Sources are numbered from 0.
 * Not thread-safe.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOT_CLAIMS_H
#define SLOT_CLAIMS_H

#include "base/warn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one source. */
struct slot_claims_one {
    bool is_known;    /* <lsn> is */
    uint64_t lsn;     /* 0: it has none */
    int64_t since_ms; /* by clock_mono_ms */
    bool names_slot;  /* its saved position says that the slot is ours */
};

/* Zeroed is empty. */
struct slot_claims {
    struct slot_claims_one *v; /* owned */
    size_t n, cap;
};

/* False: out of memory. */
bool slot_claims_add(struct slot_claims *cs) WARN_UNUSED;
void slot_claims_fini(struct slot_claims *cs);

/* The position of source <i> was saved, or, <lsn> 0, it has none that is by the log. */
void slot_claims_set(struct slot_claims *cs, size_t i, uint64_t lsn);

/* A position of source <i> will be saved, with this LSN. */
void slot_claims_expect(struct slot_claims *cs, size_t i, uint64_t lsn);

/* Up to where all is saved; 0: that is not known, or nobody has a claim. */
uint64_t slot_claims_least(const struct slot_claims *cs);

/* The source with the least claim; 0 if nobody has one. */
size_t slot_claims_holder(const struct slot_claims *cs);

/* True if a source other than <except> has a claim, or may have. */
bool slot_claims_has(const struct slot_claims *cs, size_t except);

/* True if the position of a source says that the slot is ours. */
bool slot_claims_is_named(const struct slot_claims *cs);

#endif
