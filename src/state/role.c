/* role.c -- whether this process leads its pipeline.
 * SPDX-License-Identifier: MIT */
#include "state/role.h"

#include <unistd.h>

bool role_init(struct role *r, int wake_fd, struct err *e)
{
    *r = (struct role){ .wake_fd = wake_fd };
    return pthread_mutex_init(&r->mutex, NULL) == 0 || err_memory(e);
}

void role_fini(struct role *r)
{
    pthread_mutex_destroy(&r->mutex);
}

void role_get(struct role *r, struct role_facts *facts)
{
    pthread_mutex_lock(&r->mutex);
    *facts = r->facts;
    pthread_mutex_unlock(&r->mutex);
}

void role_set(struct role *r, const struct role_facts *facts)
{
    pthread_mutex_lock(&r->mutex);
    r->facts = *facts;
    pthread_mutex_unlock(&r->mutex);
}

/* Under the mutex. The first one who asked for it is the next leader. */
static void set_next(struct role *r, const struct role_process *next)
{
    uint64_t one = 1;

    if (r->next.host[0] != '\0')
        return;
    r->next = *next;
    if (r->wake_fd >= 0 && write(r->wake_fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
}

void role_set_standby(struct role *r, uint64_t standbys, const struct role_process *other,
                      const struct role_process *wants, int64_t renewed_ms)
{
    pthread_mutex_lock(&r->mutex);
    r->facts.standbys = standbys;
    r->facts.other = *other;
    r->facts.renewed_ms = renewed_ms;
    if (wants->host[0] != '\0')
        set_next(r, wants);
    pthread_mutex_unlock(&r->mutex);
}

bool role_hand_over(struct role *r, struct role_process *next)
{
    bool is_there;

    pthread_mutex_lock(&r->mutex);
    is_there = r->facts.kind == ROLE_LEADER && r->facts.other.host[0] != '\0';
    if (is_there)
        set_next(r, &r->facts.other);
    *next = r->next;
    pthread_mutex_unlock(&r->mutex);
    return is_there;
}

void role_next(struct role *r, struct role_process *next)
{
    pthread_mutex_lock(&r->mutex);
    *next = r->next;
    pthread_mutex_unlock(&r->mutex);
}

void role_wish(struct role *r)
{
    pthread_mutex_lock(&r->mutex);
    r->wants_lead = true;
    pthread_mutex_unlock(&r->mutex);
}

bool role_take_wish(struct role *r)
{
    bool wanted;

    pthread_mutex_lock(&r->mutex);
    wanted = r->wants_lead;
    r->wants_lead = false;
    pthread_mutex_unlock(&r->mutex);
    return wanted;
}
