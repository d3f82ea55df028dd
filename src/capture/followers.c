/* followers.c -- the followers of a crew, and which of them a source has.
 * SPDX-License-Identifier: MIT */
#include "capture/followers.h"

#include "base/array.h"

#include <stdlib.h>

static struct follower *find(struct followers *fs, const struct follower_job *job,
                             const struct config *config)
{
    struct follower *f;

    for (size_t i = 0; i < fs->n; i++)
        if (follower_is_of(fs->v[i], config))
            return fs->v[i];
    f = follower_new(job, config);
    if (f == NULL || !ARRAY_PUSH(fs->v, fs->n, fs->cap, f)) {
        follower_free(f);
        return NULL;
    }
    return f;
}

bool followers_add(struct followers *fs, const struct follower_job *job,
                   const struct config *config, struct sender *sender, void *arg,
                   struct followers_source *followed)
{
    if (config->capture != CONFIG_BY_LOGICAL)
        return true;
    followed->follower = find(fs, job, config);
    return followed->follower != NULL &&
           follower_add(followed->follower, config, sender, arg, &followed->i);
}

bool followers_start(struct followers *fs, struct err *e)
{
    for (size_t i = 0; i < fs->n; i++)
        if (!follower_start(fs->v[i], e))
            return false;
    return true;
}

void followers_stop(struct followers *fs)
{
    for (size_t i = 0; i < fs->n; i++)
        follower_stop(fs->v[i]);
}

void followers_free(struct followers *fs)
{
    for (size_t i = 0; i < fs->n; i++)
        follower_free(fs->v[i]);
    free(fs->v);
    *fs = (struct followers){ 0 };
}

void followers_pause(struct followers_source *f, struct step *step)
{
    f->is_paused = f->follower != NULL && !step_is_in_snapshot(step);
    if (f->is_paused)
        follower_pause(f->follower, f->i, step_source(step));
}

void followers_resume(struct followers_source *f, struct step *step)
{
    if (!f->is_paused)
        return;
    f->is_paused = false;
    f->is_streaming = step_is_streaming(step);
    follower_resume(f->follower, f->i, f->is_streaming ? step_source(step) : NULL);
}

void followers_restore(struct followers_source *f, const struct logical *l)
{
    if (f->follower != NULL)
        follower_restore(f->follower, f->i, l);
}

void followers_claim(struct followers_source *f, uint64_t lsn)
{
    if (f->follower != NULL)
        follower_claim(f->follower, f->i, lsn);
}
