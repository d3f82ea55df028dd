/* bell.h -- hears commits that the triggers announce, and counts them.
 *
 * One thread with a connection of its own for each database, which LISTENs.
 * What it hears it counts, by the number of the table (see stamps.h); readers
 * compare the count with the one that they saw last. Connects again when it
 * must. Where the server cannot LISTEN (a standby), or what is announced never
 * arrives (a pooler), it says why, and stays mute.
 *
 * All functions but bell_free are to be called with the mutex held.
 *
 * SPDX-License-Identifier: MIT */
#ifndef BELL_H
#define BELL_H

#include <pthread.h>
#include <stdint.h>

struct bell;

/* Starts the thread; all is borrowed, until bell_free. It signals <changed> at each ring, ends
 * when <stop_fd> can be read. Returns owned, or NULL: no memory, no thread. */
struct bell *bell_new(const char *conninfo, int stop_fd, pthread_mutex_t *mutex,
                      pthread_cond_t *changed);

/* How often it rang for a table. What is new is news. */
uint64_t bell_count(const struct bell *b, uint64_t number);

/* Why it will never ring; NULL while it may. */
const char *bell_mute(const struct bell *b);

/* Waits for the thread. NULL is legal. */
void bell_free(struct bell *b);

#endif
