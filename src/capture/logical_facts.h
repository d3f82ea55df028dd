/* logical_facts.h -- what the server says of the log, a publication and a slot.
 *
 * They are read with the other facts of a step, and say whether the source can go by the log at
 * all. Reads the answer to a statement; runs none itself.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOGICAL_FACTS_H
#define LOGICAL_FACTS_H

#include "capture/source.h"

/* Zeroed: nothing is known. */
struct logical_facts {
    bool is_known;
    char wal_level[16];
    /* of the publication: */
    bool is_published, has_publication, has_all_ops, has_root, is_filtered;
    uint64_t published; /* another number once any of that may have been otherwise for a while */
    /* of the table: */
    char kept;       /* 'u': it, or a part of it, is unlogged; 'c': it is a catalog; else 'p' */
    char identity;   /* relreplident */
    bool is_mixed;   /* it is FULL, and that of a partition is not */
    bool has_child;  /* a new table inherits from it: the log may lack rows of that */
    /* of the slot: */
    bool has_slot, is_ours, is_lost;
    bool is_synced; /* a standby has it from the primary, where it is to be read */
    bool is_moved;  /* the table was written anew since the imported snapshot */
    uint64_t version; /* of the server */
    uint64_t confirmed;
};

extern const struct result_shape logical_facts_shape;

/* Appends the statement, with a semicolon. */
void logical_facts_put(const struct source *s, struct buf *sql);

/* Reads its answer, also into s->log_leaves. */
bool logical_facts_read(struct logical_facts *f, struct source *s, const struct result *r,
                        struct err *e) WARN_UNUSED;

/* ERR_REFUSED, with what to do, if the source cannot go by the log. A position that does already is
 * not held against the publication: what that lacks now is a hole. */
bool logical_facts_check(const struct logical_facts *f, const struct source *s,
                         struct err *e) WARN_UNUSED;

#endif
