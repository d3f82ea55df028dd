/* crew_steer.h -- what the host asks of a crew that runs.
 *
 * As the functions of reader.h that have these names. Any thread may call them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CREW_STEER_H
#define CREW_STEER_H

#include "capture/crew.h"

/* False: out of memory. */
bool crew_steer_restore(struct crew_source *s, const struct position *kept) WARN_UNUSED;
bool crew_steer_answer(struct crew_source *s, const struct tally_request *asked);
void crew_steer_wake(struct crew *crew);
void crew_steer_saved(struct crew_source *s, uint64_t lsn);

/* False: out of memory. */
bool crew_steer_reread(struct crew_source *s, const char *where) WARN_UNUSED;
void crew_steer_pause(struct crew_source *s, bool is_paused);
void crew_steer_poll(struct crew_source *s);
void crew_steer_meter(struct crew_source *s, struct meter_values *to);

#endif
