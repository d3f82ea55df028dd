/* standby.h -- opens the state; where it is in a database that another process uses, waits for it.
 *
 * A process that waits is watched and steered as one that is at work.
 *
 * SPDX-License-Identifier: MIT */
#ifndef STANDBY_H
#define STANDBY_H

#include "host/steer.h"
#include "serve/server.h"

/* All borrowed. */
struct standby {
    struct script *script;
    struct publish *publish;
    struct steer *steer;
    struct server *server; /* or NULL */
    struct control_options control;
};

/* Users can reach the program, where that is possible, from when its state is its own, or while it
 * waits for that. A member (see workers.h) has no state of its own, and opens none. <s> must not be
 * moved afterwards. */
bool standby_open(struct standby *s, struct err *e) WARN_UNUSED;

/* The loop begins. Does nothing where standby_open was not called. */
void standby_end(struct standby *s);

#endif
