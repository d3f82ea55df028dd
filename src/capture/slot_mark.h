/* slot_mark.h -- where a slot begins: the mark from which on a source goes by the log.
 *
 * A slot brings what commits at or after its consistent point, L0. When it is made the server
 * exports a snapshot, S0, of just what committed before that. Its text lists every other xid, those
 * of savepoints too. A slot is made, or a temporary one beside that of other sources.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOT_MARK_H
#define SLOT_MARK_H

#include "capture/config.h"
#include "pg/replication.h"

/* Zeroed: there is none. */
struct slot_mark {
    uint64_t lsn;   /* L0; 0: there is none */
    char *shown;    /* text of S0; owned */
    struct replication *exporter; /* S0 lives as long; owned; NULL: it is over */
    char name[64];  /* of S0, while it lives */
    int64_t in_use_ms; /* since when somebody else reads the slot; 0: nobody does */
};

struct slot_mark_request {
    const struct config *config;
    bool is_beside;  /* other sources rely on the slot: a temporary one is made, which is over */
    size_t number;   /* of the source, for its name */
    bool keeps;      /* S0 is to live on */
};

void slot_mark_fini(struct slot_mark *m);

/* Nobody can make use of it any more. */
void slot_mark_forget(struct slot_mark *m);

/* Makes it, after slot_mark_forget. A slot of the name is dropped: it must be ours, and nobody may
 * rely on it, unless <is_beside>. <conn> is for questions, with no transaction open. Waits for all
 * transactions that are under way; on a standby for the next record of the primary's that says
 * which those are. Errors as of slot_errors_explain. */
bool slot_mark_make(struct slot_mark *m, struct conn *conn, const struct slot_mark_request *r,
                    struct err *e) WARN_UNUSED;

#endif
