/* clock.h -- what time it is.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLOCK_H
#define CLOCK_H

#include <pthread.h>
#include <stdint.h>

#define CLOCK_TEXT 32 /* room for "2026-11-23T00:50:57.721Z" */

/* Milliseconds and nanoseconds since some moment in the past. They never go back. */
int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);

/* The same of a clock that goes on while the machine sleeps. */
int64_t clock_boot_ms(void);

/* Nanoseconds of the first clock when it ticked last, some milliseconds ago: costs very little. */
int64_t clock_tick_ns(void);

/* Initializes a condition whose deadlines are times of the first two functions. */
void clock_init_cond(pthread_cond_t *cond);

/* Waits for the condition, <wait_ms> at most; -1: for ever. */
void clock_wait_cond(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t wait_ms);

/* The shorter of two waits, in any unit; below 0: for ever. */
int64_t clock_shorter(int64_t a, int64_t b);

/* Milliseconds and microseconds since 1970 by the wall clock, which may be set back. */
int64_t clock_wall_ms(void);
int64_t clock_wall_us(void);

/* Writes a time in microseconds since 1970, or that of the wall clock, as RFC 3339 in UTC with
 * milliseconds. */
void clock_write(int64_t us, char text[CLOCK_TEXT]);
void clock_utc(char text[CLOCK_TEXT]);

#endif
