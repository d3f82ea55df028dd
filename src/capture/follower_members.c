/* follower_members.c -- the sources whose log one follower reads.
 * SPDX-License-Identifier: MIT */
#include "capture/follower_members.h"

#include "base/array.h"
#include "base/clock.h"
#include "pg/lsn.h"

bool follower_members_add(struct follower_members *ms, struct sender *sender, void *arg)
{
    return ARRAY_PUSH(ms->v, ms->n, ms->cap,
                      ((struct follower_members_item){ .sender = sender, .arg = arg }));
}

struct follower_members_item *follower_members_of(struct follower_members *ms,
                                                 const struct message *m)
{
    for (size_t i = 0; i < ms->n; i++)
        if (ms->v[i].sender->source == m->source)
            return &ms->v[i];
    return NULL;
}

struct sender *follower_members_sender(const struct follower_members *ms)
{
    for (size_t i = 0; i < ms->n; i++)
        if (ms->v[i].source != NULL)
            return ms->v[i].sender;
    return ms->v[0].sender;
}

bool follower_members_are_there(const struct follower_members *ms,
                                const struct slot_claims *claims)
{
    bool has_source = false;

    for (size_t i = 0; i < ms->n; i++) {
        const struct follower_members_item *m = &ms->v[i];

        has_source = has_source || m->source != NULL;
        if (!claims->v[i].is_known || (claims->v[i].lsn != 0 && m->source == NULL) ||
            (m->source != NULL && m->source->log_leaves.met_lsn != 0))
            return false;
    }
    return has_source;
}

static bool has_reread(const struct follower_members_item *m)
{
    const struct source *s = m->source;

    return s != NULL && reread_is_due(&s->position.reread) && s->reread_wait.waits &&
           s->reread_wait.lsn != UINT64_MAX && s->position.logical.inside.commit == 0 &&
           lsn_reaches(s->position.logical.lsn, s->reread_wait.lsn) &&
           clock_mono_ms() >= s->reread_wait.from_ms;
}

void follower_members_let_reread(struct follower_members *ms, void (*look)(void *arg))
{
    for (size_t i = 0; i < ms->n; i++) {
        if (!has_reread(&ms->v[i]))
            continue;
        ms->v[i].source->reread_wait.waits = false;
        look(ms->v[i].arg);
    }
}

static bool is_at_target(const struct follower_members_item *m)
{
    uint64_t lsn = m->source != NULL ? m->source->position.logical.lsn : 0;

    return lsn != 0 && lsn_reaches(lsn, m->target);
}

bool follower_members_are_at_target(const struct follower_members *ms, bool *is_due,
                                    bool *is_reread)
{
    *is_due = *is_reread = false;
    for (size_t i = 0; i < ms->n; i++) {
        const struct source *s = ms->v[i].source;

        if (!is_at_target(&ms->v[i]))
            return false;
        *is_due = *is_due || s->log_leaves.due_lsn != 0;
        *is_reread = *is_reread || reread_is_due(&s->position.reread);
    }
    return true;
}
