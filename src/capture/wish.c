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

bool wish_is_there(const struct wish *w)
{
    return w->asked != NULL || w->taken != NULL;
}

void wish_give(struct wish *w, struct step *step, struct sender *sender)
{
    struct err e;

    if (w->taken != NULL && !reread_step_ask(step_source(step), w->taken, &e))
        sender_reread(sender, &e);
    free(w->taken);
    w->taken = NULL;
}

/* ---- turns ---- */

/* The source of which a range is to be read; UNIT_ALL: of none. */
static size_t find_due(const struct wish_turns *t, const struct unit *u)
{
    for (size_t k = 0; k < u->n; k++) {
        size_t i = (t->next + k) % u->n;

        if (reread_step_is_due(step_source(u->steps[i])))
            return i;
    }
    return UNIT_ALL;
}

bool wish_choose(struct wish_turns *t, struct unit *u)
{
    size_t chosen = UNIT_ALL;

    if (unit_is_complete(u) && (t->was_poll || clock_mono_ms() < t->poll_ms))
        chosen = find_due(t, u);
    unit_choose(u, chosen);
    if (chosen == UNIT_ALL)
        return false;
    t->was_poll = false;
    t->next = chosen + 1;
    return true;
}

int64_t wish_end_poll(struct wish_turns *t, const struct unit *u, int64_t due_ms)
{
    t->was_poll = true;
    t->poll_ms = due_ms;
    return find_due(t, u) != UNIT_ALL ? 0 : due_ms;
}

int64_t wish_end_range(const struct wish_turns *t, const struct unit *u, int64_t now_ms)
{
    return !unit_is_complete(u) || find_due(t, u) != UNIT_ALL ? now_ms : t->poll_ms;
}

bool wish_drop(struct wish_turns *t, struct unit *u, struct sender *const *senders,
               const struct err *e)
{
    enum sqlstate_action action = sqlstate_action(e, true);
    size_t i = u->chosen;

    if (i == UNIT_ALL || e->code != ERR_SQL || action == SQLSTATE_RETRY ||
        action == SQLSTATE_STOP)
        return false;
    t->was_poll = false;
    unit_choose(u, UNIT_ALL);
    reread_step_drop(step_source(u->steps[i]));
    sender_reread(senders[i], e);
    return true;
}
