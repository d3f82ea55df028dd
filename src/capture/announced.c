/* announced.c -- commits that were announced for one source.
 * SPDX-License-Identifier: MIT */
#include "capture/announced.h"

void announced_begin_poll(struct announced *a, const struct listener *l)
{
    if (l != NULL)
        a->heard = listener_count(l, a->as);
}

bool announced_is_news(const struct announced *a, const struct listener *l)
{
    return l != NULL && a->as != 0 && listener_count(l, a->as) != a->heard;
}

void announced_check(struct announced *a, const struct listener *l, struct sender *sender)
{
    const char *why = l != NULL && a->as != 0 ? listener_why_mute(l) : NULL;
    struct err e = { .code = ERR_NONE };

    if (why == NULL || a->was_told)
        return;
    a->was_told = true;
    err_set(&e, ERR_NONE, "%s", why);
    sender_notice(sender, LOG_INFO, &e, -1);
}
