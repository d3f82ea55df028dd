/* announced.h -- commits that were announced for one source.
 *
 * What a crew keeps of it between polls, see listener.h. Call all functions with the listener's
 * mutex held; the listener may be NULL.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ANNOUNCED_H
#define ANNOUNCED_H

#include "capture/listener.h"
#include "capture/sender.h"

struct announced {
    uint64_t as;    /* the number under which its commits are announced; 0: they are not */
    uint64_t heard; /* how many announcements had come when the last poll began */
    bool was_told;  /* the host has the notice that announcements do not arrive */
};

/* A poll begins: it finds what was announced so far. */
void announced_begin_poll(struct announced *a, const struct listener *l);

/* True if a commit was announced since then. */
bool announced_is_news(const struct announced *a, const struct listener *l);

/* Sends the host a notice, once, if announcements do not arrive. */
void announced_check(struct announced *a, const struct listener *l, struct sender *sender);

#endif
