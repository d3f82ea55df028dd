/* standby.c -- opens the state, or waits for it.
 * SPDX-License-Identifier: MIT */
#include "host/standby.h"

#include "lua/api_state.h"

#include <poll.h>

/* What is done for <ms> milliseconds. */
static bool stand_by(void *arg, int64_t ms, struct err *e)
{
    struct standby *s = arg;
    struct pollfd fds[] = {
        { .fd = s->control.bells.stop_fd, .events = POLLIN },
        { .fd = s->control.bells.news_fd, .events = POLLIN },
        { .fd = s->steer->reload.fd, .events = POLLIN },
    };

    publish_turn(s->publish);
    return steer_turn(s->steer, e) && (poll(fds, 3, (int)ms) <= 0 || steer_turn(s->steer, e));
}

static void start_steering(struct standby *s)
{
    steer_open(s->steer, &s->control);
    if (s->server != NULL)
        server_set_control(s->server, s->steer->control);
}

bool standby_open(struct standby *s, struct err *e)
{
    s->script->pause = stand_by;
    s->script->pause_arg = s;
    publish_soon(s->publish);
    if (s->control.is_shared && !store_make_folder(s->control.state, e))
        return false;
    if (s->control.is_shared)
        start_steering(s);
    if (s->script->is_member) {
        role_set(s->script->role, &(struct role_facts){ .kind = ROLE_MEMBER });
        return true;
    }
    if (!api_state_open(s->script, e))
        return false;
    publish_soon(s->publish);
    return true;
}

void standby_end(struct standby *s)
{
    if (s->script == NULL)
        return;
    if (s->steer->control == NULL)
        start_steering(s);
    steer_lead(s->steer);
}
