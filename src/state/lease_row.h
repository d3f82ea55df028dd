/* lease_row.h -- the row of a pipeline in pgcdc.lease, which says who has it.
 *
 * Statements on a connection to a state's database, see database.h; a lease is kept by lease.h.
 * Nothing is tried again here.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LEASE_ROW_H
#define LEASE_ROW_H

#include "base/buf.h"
#include "pg/conn.h"
#include "state/role.h"

/* Who wants a pipeline, and for how long at a time. The texts are borrowed. */
struct lease_row_claim {
    const char *pipeline; /* as a literal of SQL */
    const char *owner;    /* tells this process from all others; hex digits */
    int seconds;
};

struct lease_row {
    bool is_there, is_mine;
    uint64_t epoch, pid;
    char host[256];
};

/* Takes the pipeline, if nobody has it or his lease has ended, and nobody else is to be next; then
 * row->is_mine, and its epoch is a new one, larger than any before. Else the row is of who has it,
 * and it is written down that we wait; <is_first>: which was not tried before. */
bool lease_row_take(struct conn *c, const struct lease_row_claim *claim, bool is_first,
                    struct lease_row *row, struct err *e) WARN_UNUSED;

/* Appends a question without an end, for FOR SHARE, say; its answer is of lease_row_shape. */
void lease_row_put_question(struct buf *sql, const struct lease_row_claim *claim);
extern const struct result_shape lease_row_shape;
void lease_row_read(struct lease_row *row, const struct result *r);

/* Who waits for the pipeline. */
struct lease_row_standbys {
    uint64_t n;
    struct role_process newest, wants; /* wants: who is to lead by a user's wish, a new one */
};

/* The lease lasts for as long as a new one again. *is_lost: another process has it, or nobody. */
bool lease_row_renew(struct conn *c, const struct lease_row_claim *claim, uint64_t epoch,
                     bool *is_lost, struct lease_row_standbys *standbys,
                     struct err *e) WARN_UNUSED;

/* Ends the lease, if it is still ours, so that nobody need wait for that. <next>, or NULL: the
 * owner who is to have it next; for a while nobody else takes it. */
bool lease_row_release(struct conn *c, const struct lease_row_claim *claim, uint64_t epoch,
                       const char *next, struct err *e) WARN_UNUSED;

/* We wait, and a user wants that we lead: who leads is told. */
bool lease_row_wish(struct conn *c, const struct lease_row_claim *claim, struct err *e) WARN_UNUSED;

/* We wait no more. */
bool lease_row_leave(struct conn *c, const struct lease_row_claim *claim,
                     struct err *e) WARN_UNUSED;

/* From now on the connection gets a notification when somebody wishes to lead, where no pooler is
 * in the way. */
bool lease_row_listen(struct conn *c, struct err *e) WARN_UNUSED;

#endif
