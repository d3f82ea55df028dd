/* floor_early.c -- a mutant of how the floor rises, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * What a step has noted is the floor at once, wherever the stream is: what the log has not brought
 * yet is passed over on the way back.
 *
 * Linked in place of src/capture/log_floor.c. */
#define log_floor_rise log_floor_rise_by_the_rule
#include "../../src/capture/log_floor.c"
#undef log_floor_rise

void log_floor_rise(struct log_floor *f, uint64_t passed, struct horizon *h);

void log_floor_rise(struct log_floor *f, uint64_t passed, struct horizon *h)
{
    (void)passed;
    log_floor_rise_by_the_rule(f, UINT64_MAX, h);
}
