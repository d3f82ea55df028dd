/* crew_steer.c -- what the host asks of a crew that runs.
 * SPDX-License-Identifier: MIT */
#include "capture/crew_steer.h"

bool crew_steer_answer(struct crew_source *s, const struct tally_request *asked)
{
    bool is_awaited;

    pthread_mutex_lock(&s->crew->mutex);
    is_awaited = answer_give(&s->answer, asked);
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
    return is_awaited;
}

void crew_steer_meter(struct crew_source *s, struct meter_values *to)
{
    meter_read(&s->sender.meter, to);
}

bool crew_steer_restore(struct crew_source *s, const struct position *kept)
{
    bool ok;

    pthread_mutex_lock(&s->crew->mutex);
    ok = step_restore(s->step, kept);
    followers_restore(&s->followed, kept != NULL ? &kept->logical : NULL);
    s->is_waiting = false;
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
    return ok;
}

void crew_steer_wake(struct crew *crew)
{
    pthread_mutex_lock(&crew->mutex);
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
}

void crew_steer_pause(struct crew_source *s, bool is_paused)
{
    pthread_mutex_lock(&s->crew->mutex);
    s->unit->is_paused = is_paused;
    if (is_paused)
        load_rest(&s->unit->unit.load);
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
}

void crew_steer_poll(struct crew_source *s)
{
    pthread_mutex_lock(&s->crew->mutex);
    s->unit->is_wanted = true;
    pthread_cond_broadcast(&s->crew->changed);
    pthread_mutex_unlock(&s->crew->mutex);
}

bool crew_steer_reread(struct crew_source *s, const char *where)
{
    bool ok;

    pthread_mutex_lock(&s->crew->mutex);
    ok = wish_ask(&s->wish, where);
    pthread_mutex_unlock(&s->crew->mutex);
    crew_steer_poll(s);
    return ok;
}

void crew_steer_saved(struct crew_source *s, uint64_t lsn)
{
    pthread_mutex_lock(&s->crew->mutex);
    followers_claim(&s->followed, lsn);
    pthread_mutex_unlock(&s->crew->mutex);
}
