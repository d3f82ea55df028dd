/* log_floor.h -- the way back from the log: how the floor of its position rises.
 *
 * A position by the log keeps a horizon of xmins (horizon.h), by which the table is read where the
 * log cannot go on, or the source leaves it. The xids that the log brings are seen. For the floor
 * a snapshot's xmin is noted, with an LSN that was read after it: the transactions below that xmin
 * were over then, so what they have written is before that LSN. Once the log was read up to there,
 * all of them have come, and it is the floor. (The server sends of its log only what is on its
 * disk, so no crash gives these xids out again; but one before the log is read so far may, and so
 * may a failover: then the note is to be forgotten.)
 *
 * Pure, no I/O.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LOG_FLOOR_H
#define LOG_FLOOR_H

#include "capture/horizon.h"

/* Zeroed: nothing is noted. */
struct log_floor {
    uint64_t xmin, lsn;
};

/* Notes <xmin> of a snapshot, and <lsn>, which was read after it, unless there is a note that waits
 * yet. (On a standby the newest transaction that a snapshot shows may end where the log does, or
 * later: <lsn> is then to be beyond that.) */
void log_floor_note(struct log_floor *f, uint64_t xmin, uint64_t lsn);

/* The log was read up to <passed>: the floor of <h> rises, if what was noted says so. */
void log_floor_rise(struct log_floor *f, uint64_t passed, struct horizon *h);

/* The server has crashed, or is another one. */
void log_floor_forget(struct log_floor *f);

#endif
