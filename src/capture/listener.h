/* listener.h -- hears commits that the triggers announce, and counts them.
 *
 * One thread with a connection of its own for each database, which LISTENs.
 * It counts the announcements of each table, by the table's number (see sql_trigger.h); readers
 * compare the count with the one that they saw before. If the connection is lost, it connects
 * again. If the server cannot LISTEN (a standby), or announcements never arrive (a pooler), it
 * keeps the reason and hears nothing any more.
 *
 * Call listener_free without the mutex, all other functions with the mutex held.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LISTENER_H
#define LISTENER_H

#include <pthread.h>
#include <stdint.h>

struct listener;

/* Starts the thread; all is borrowed until listener_free. The thread signals <changed> at each
 * announcement, and ends when <stop_fd> can be read. Returns owned, or NULL: no memory, or no
 * thread. */
struct listener *listener_new(const char *conninfo, int stop_fd, pthread_mutex_t *mutex,
                              pthread_cond_t *changed);

/* How many announcements may have concerned the table with this number. If the count differs from
 * an earlier one, look at the table. */
uint64_t listener_count(const struct listener *l, uint64_t number);

/* Why nothing will be heard any more, borrowed; NULL while something may be. */
const char *listener_why_mute(const struct listener *l);

/* Waits for the thread. NULL is legal. */
void listener_free(struct listener *l);

#endif
