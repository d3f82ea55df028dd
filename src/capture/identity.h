/* identity.h -- whether this is still the server that the position was taken on.
 *
 * The facts that are kept with a position and compared at every poll, and the verdict on what a
 * difference means. Pure functions, no I/O. Any role can read all of the facts.
 *
 * SPDX-License-Identifier: MIT */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "pg/conn.h"

struct identity {
    char system[24];    /* pg_control_system().system_identifier */
    char started[48];   /* pg_postmaster_start_time() */
    char stats[48];     /* pg_stat_bgwriter.stats_reset: the mark of a crash */
    uint32_t database;  /* oid */
    uint32_t timeline;
    bool in_recovery;
    uint64_t xmax;      /* the snapshot's */
    uint64_t lsn;       /* WAL insert position; in recovery: replayed up to */
    uint64_t flush_lsn; /* not kept; in recovery the same as lsn */
    /* the newest (xmax, lsn) that was known to be flushed: no crash undoes what is below it */
    uint64_t durable_xmax, durable_lsn;
};

/* Reads one row of sql_facts, from column <col> on: all fields except xmax, durable_xmax and
 * durable_lsn, which become 0. ERR_ANSWER: one is too long. */
bool identity_read(struct identity *id, const struct result *r, size_t col,
                   struct err *e) WARN_UNUSED;

/* Reads one row of sql_glance, from column <col> on; the fields that it does not tell stay as they
 * are. */
bool identity_read_glance(struct identity *id, const struct result *r, size_t col,
                          struct err *e) WARN_UNUSED;

/* What identity_read_glance reads, of <from>. */
void identity_share_glance(struct identity *to, const struct identity *from);

enum identity_verdict {
    IDENTITY_SAME,        /* go on */
    IDENTITY_PROMOTED,    /* the standby became a primary: go on */
    IDENTITY_CRASHED,     /* xids above the durable bound may be given out again: forget seen */
    IDENTITY_FAILED_OVER, /* xids below the floor may be given out again: snapshot again */
    IDENTITY_BEHIND,      /* a standby of the same history that has not come so far yet: wait */
    IDENTITY_OTHER,       /* another cluster or database: stop */
};

/* What <now> means for a position that was kept with <then>. Writes a sentence to <why>, empty for
 * IDENTITY_SAME. */
enum identity_verdict identity_compare(const struct identity *then, const struct identity *now,
                                       char *why, size_t why_size);

#endif
