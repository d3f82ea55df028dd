/* member.h -- what a worker tells the program that has started it, a member of a group of Kafka.
 *
 * The member starts a process of its own program for each partition that it is assigned, see
 * workers.h, and says in $PGCDC_MEMBER which one that is. The worker tells it, in messages of a
 * socket, by their first byte:
 *   R         what was there at the start is delivered and saved
 *   P<text>   positions that were saved, or that the run begins at, in the words of who feeds the
 *             sources; of one source the last one counts
 *   E<status> the script has asked for a stop, with this exit status
 * When the member ends, however that happens, the worker is sent SIGUSR2, which asks for a stop in
 * good order as SIGTERM does; only that it never counts as the second signal, that ends at once.
 *
 * SPDX-License-Identifier: MIT */
#ifndef MEMBER_H
#define MEMBER_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct member {
    pid_t pid;        /* of the member; 0: this process is no worker */
    int partition;
    int fd;           /* our end of the socket */
    struct buf text;  /* positions that it was not told, one after the other, newer ones last */
    int64_t told_ms;  /* when it was told some last */
};

/* Takes $PGCDC_MEMBER out of the environment: what a script starts is no worker. ERR_USAGE for one
 * that cannot be. */
bool member_take(struct member *m, struct err *e) WARN_UNUSED;

/* Has SIGUSR2 sent when the member ends. False: it has ended. */
bool member_follow(const struct member *m, struct err *e) WARN_UNUSED;

/* The descriptor stays open if this process is run anew, or not. */
void member_keep(const struct member *m, bool is_kept);

/* A position was saved, <text>, or the run begins at <fed>, in the words of who feeds the source
 * (NULL: from the start): it is told soon. Each does nothing where there is no member. */
void member_saved(struct member *m, const char *text);
void member_began(struct member *m, const char *fed);
void member_ready(struct member *m);

/* Tells what is due. */
void member_turn(struct member *m);

/* The run is over: tells all that is left, and what the script has asked for; <status> -1: nothing.
 * Frees what it owns; the socket stays, for a run that follows in this process. */
void member_end(struct member *m, int status);

#endif
