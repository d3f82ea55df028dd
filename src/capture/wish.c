/* wish.c -- what a user wants to be read again, and when that comes between polls.
 * SPDX-License-Identifier: MIT */
#include "capture/wish.h"

#include "base/clock.h"
#include "capture/reread_step.h"
#include "pg/sqlstate.h"

#include <stdlib.h>
#include <string.h>

void wish_fini(struct wish *w)
{
    free(w->asked);
    free(w->taken);
    *w = (struct wish){ 0 };
}

bool wish_ask(struct wish *w, const char *where)
{
    char *copy = strdup(where);

    if (copy == NULL)
        return false;
    free(w->asked);
    w->asked = copy;
    return true;
}

void wish_take(struct wish *w)
{
    if (w->asked == NULL)
        return;
    free(w->taken);
    w->taken = w->asked;
    w->asked = NULL;
}

static bool is_due(const struct wish *w, struct step *step)
{
    return step_is_complete(step) && reread_step_is_due(step_source(step)) &&
           (w->was_poll || clock_mono_ms() < w->poll_ms);
}

bool wish_choose(struct wish *w, struct step *step, struct sender *sender)
{
    struct err e;
    bool is;

    if (w->taken != NULL && !reread_step_ask(step_source(step), w->taken, &e))
        sender_reread(sender, &e);
    free(w->taken);
    w->taken = NULL;
    is = is_due(w, step);
    w->was_poll = w->was_poll && !is;
    step_choose(step, is);
    return is;
}

int64_t wish_end_poll(struct wish *w, struct step *step, int64_t due_ms)
{
    w->was_poll = true;
    w->poll_ms = due_ms;
    return reread_step_is_due(step_source(step)) ? 0 : due_ms;
}

bool wish_drop(struct wish *w, struct step *step, struct sender *sender, const struct err *e)
{
    enum sqlstate_action action = sqlstate_action(e, true);

    if (!step_is_reread(step) || e->code != ERR_SQL || action == SQLSTATE_RETRY ||
        action == SQLSTATE_STOP)
        return false;
    w->was_poll = false;
    step_choose(step, false);
    reread_step_drop(step_source(step));
    sender_reread(sender, e);
    return true;
}
