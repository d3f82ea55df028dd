/* notify.h -- tells systemd how the program is: the protocol of $NOTIFY_SOCKET.
 *
 *    READY=1      all sources have read what was there
 *    STATUS=      how late they are, or what is wrong, when that has changed
 *    WATCHDOG=1   the loop turns; two times in each $WATCHDOG_USEC, if there is one
 *    STOPPING=1   the program is about to end
 *    RELOADING=1  it is run anew, and says READY=1 again
 *
 * A thread of its own reads copies of the figures, so that a loop that hangs is silent and one that
 * waits for a database or a target is not (see base/beat.h).
 *
 * SPDX-License-Identifier: MIT */
#ifndef NOTIFY_H
#define NOTIFY_H

#include "serve/health.h"

struct notify;

/* What the environment says. */
struct notify_wish {
    char *socket;        /* owned; NULL: nobody wants to be told */
    int64_t watchdog_ms; /* between two signs of life; 0: nobody waits for them */
};

/* Takes $NOTIFY_SOCKET and its kin out of the environment: what a script starts is not the service.
 * To be called before the script is loaded. ERR_USAGE for a socket that cannot be, ERR_MEMORY. */
bool notify_take(struct notify_wish *w, struct err *e) WARN_UNUSED;

/* Starts the thread. <board> is borrowed, <w> and <o> are copied. Returns owned, or NULL:
 * ERR_INTERNAL, ERR_MEMORY. */
struct notify *notify_new(const struct notify_wish *w, struct figures_board *board,
                          const struct health_options *o, struct err *e);

/* Says that the program ends or, <is_reloading>, that it is run anew in this process; ends the
 * thread and frees all. NULL is legal. */
void notify_free(struct notify *n, bool is_reloading);

#endif
