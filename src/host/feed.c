/* feed.c -- changes that the Lua half brings, on their way to delivery.
 * SPDX-License-Identifier: MIT */
#include "host/feed.h"

#include "lua/api_source.h"
#include "lua/hooks.h"
#include "lua/hooks_feed.h"

static bool take(void *arg, struct message *m)
{
    struct feed *f = arg;

    queue_list_push(&f->messages, &m->item);
    return true;
}

void feed_open(struct feed *f, struct script *s, struct member *m)
{
    f->script = s;
    f->member = m;
    s->take_fed = take;
    s->fed_arg = f;
    for (size_t i = 0; i < s->n_sources; i++)
        f->has_sources = f->has_sources || s->sources[i].config->capture == CONFIG_BY_FEED;
}

void feed_close(struct feed *f)
{
    struct message *m;

    if (f->script != NULL)
        f->script->take_fed = NULL;
    while ((m = feed_take(f)) != NULL)
        message_free(m);
}

/* Finds where a source goes on, and begins. */
static bool start_source(struct feed *f, struct delivery *d, struct steer *steer,
                         enum reader_mode mode, struct err *e)
{
    static const char *const modes[] = { "run", "once", "check" };
    size_t i = delivery_source(d);
    const struct api_source *source = &f->script->sources[i];
    const struct position *p;

    if (mode != READER_CHECK && !(hooks_resolved(f->script, i, e) && steer_resolve(steer, i, e)))
        return false;
    if (!delivery_restore(d, f->script->store, source->config, source->name, e))
        return false;
    p = delivery_position(d);
    if (p != NULL)
        member_began(f->member, p->fed);
    return hooks_feed_start(f->script, i, p != NULL ? p->fed : NULL, modes[mode], e) ||
           err_prefix(e, "source %s", source->name);
}

bool feed_start(struct feed *f, struct delivery *const *deliveries, struct steer *steer,
                enum reader_mode mode, struct err *e)
{
    for (size_t i = 0; i < f->script->n_sources; i++)
        if (f->script->sources[i].config->capture == CONFIG_BY_FEED &&
            !start_source(f, deliveries[i], steer, mode, e))
            return false;
    return true;
}

struct message *feed_take(struct feed *f)
{
    return queue_list_is_empty(&f->messages) ? NULL : message_of(queue_list_take(&f->messages));
}

bool feed_fetch(struct feed *f, bool *is_idle, struct err *e)
{
    bool has_some = false;

    if (!f->has_sources || script_should_stop(f->script))
        return true;
    if (!hooks_feed_fetch(f->script, &has_some, e))
        return false;
    *is_idle = !has_some;
    return true;
}
