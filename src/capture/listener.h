/* listener.h -- hears commits that the triggers announce, and counts them.
 *
 * One thread with a connection of its own for each database, which LISTENs.
 * What it hears it counts, by the number of the table (see sql_trigger.h); readers
 * compare the count with the one that they saw last. Connects again when it
 * must. Where the server cannot LISTEN (a standby), or what is announced never
 * arrives (a pooler), it says why, and stays mute.
 *
 * All functions but listener_free are to be called with the mutex held.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LISTENER_H
#define LISTENER_H

#include <pthread.h>
#include <stdint.h>

struct listener;

/* Starts the thread; all is borrowed, until listener_free. It signals <changed> at each ring, ends
 * when <stop_fd> can be read. Returns owned, or NULL: no memory, no thread. */
struct listener *listener_new(const char *conninfo, int stop_fd, pthread_mutex_t *mutex,
                              pthread_cond_t *changed);

/* How often it rang for a table. What is new is news. */
uint64_t listener_count(const struct listener *b, uint64_t number);

/* Why it will never ring; NULL while it may. */
const char *listener_why_mute(const struct listener *b);

/* Waits for the thread. NULL is legal. */
void listener_free(struct listener *b);

#endif
