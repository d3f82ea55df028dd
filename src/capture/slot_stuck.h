/* slot_stuck.h -- a slot whose log the server fails to decode, again and again.
 *
 * What stands in the log does not change. So an error of decoding comes again at the same place, if
 * a file of the server is lost or damaged, if it takes a catalog for what that was not at the time,
 * or if a value is too long to be sent. But a server that was just started, whose disk was away or
 * whose programs are being replaced may do better in a while.
 *
 * SPDX-License-Identifier: MIT */
#ifndef SLOT_STUCK_H
#define SLOT_STUCK_H

#include <stdbool.h>
#include <stdint.h>

/* Errors in a row, all before the log was read further. Zeroed: there were none. */
struct slot_stuck {
    unsigned n;
    int64_t since_ms;
    uint64_t lsn; /* the log was read up to here */
};

/* One more, ERR_DECODING; the log was read up to <lsn>. <now_ms>: by clock_mono_ms. True: it has
 * come at this place for a minute, or, <is_brief>, three times: waiting is of no use. Pure. */
bool slot_stuck_add(struct slot_stuck *s, uint64_t lsn, int64_t now_ms, bool is_brief);

#endif
