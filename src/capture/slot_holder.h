/* slot_holder.h -- who reads a slot: this process, or one that had the pipeline before it.
 *
 * A leader (state/lease.h) that was stopped or cut off still holds its slot when another process
 * has taken the pipeline over: until the server finds out, after wal_sender_timeout, and that may
 * be switched off. So connections that use a slot are called after the pipeline and the epoch, and
 * whoever has a later epoch ends them. What they might have read is not lost: the server was told
 * of nothing that the state does not have.
 *
 * Of a state in a file nobody takes over, and nothing of this is done.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOT_HOLDER_H
#define SLOT_HOLDER_H

#include "capture/config.h"
#include "pg/replication.h"

/* Opens a connection that will use the slot of <c>: as replication_open. */
struct replication *slot_holder_open(const struct config *c, struct conn *conn,
                                     struct connect_orphan *left, struct err *e);

/* Ends connections of earlier epochs that use the slot, or one beside it. True if there was one:
 * the slot is free now. Then it is to be used at once: who was cut off from the state only does not
 * know yet that it was taken over, and connects again. False also where the role may not end it.
 * <conn> is in no transaction that has failed. */
bool slot_holder_end_former(const struct config *c, struct conn *conn);

#endif
