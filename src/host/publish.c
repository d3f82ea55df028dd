/* publish.c -- the figures of the host, for whoever watches it.
 * SPDX-License-Identifier: MIT */
#include "host/publish.h"

#include "capture/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PUBLISH_MS 250 /* between two publications */
#define ASK_MS 1000    /* between two questions to the Lua half */

/* ---- one source ---- */

/* Copies a name, cut before a character that has no room. */
static void set_name(char to[FIGURES_NAME], const char *name)
{
    size_t n = strlen(name != NULL ? name : "");

    if (n >= FIGURES_NAME)
        for (n = FIGURES_NAME - 1; n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80;)
            n--;
    if (n > 0)
        memcpy(to, name, n);
    to[n] = '\0';
}

static void read_snapshot(struct figures_source *s, struct delivery *d, const struct position *p)
{
    const struct progress *g = delivery_progress(d);
    int64_t spent = clock_mono_ms() - g->start_ms;
    uint64_t done, total;

    position_progress(p, &done, &total);
    s->snapshot_rows = p->rows;
    s->snapshot_left = -1;
    s->snapshot_share = p->phase == POSITION_POLL ? 1 :
                        total > 0 ? (double)done / (double)total : 0;
    if (g->start_ms == 0 || p->phase == POSITION_POLL)
        return;
    s->snapshot_began_us = clock_wall_us() - spent * 1000;
    if (done > g->start_blocks && spent > 0)
        s->snapshot_left = (double)spent / 1000 * (double)(total - done) /
                           (double)(done - g->start_blocks);
}

static void read_delivery(struct figures_source *s, struct delivery *d)
{
    const struct position *p = delivery_position(d);
    const struct lag *lag = delivery_lag(d);
    uint64_t done, total;

    s->has_kept = delivery_has_kept(d);
    s->unsaved_us = lag_oldest_us(lag);
    s->unsaved_batches = delivery_batch(d) > lag->saved_batch && s->unsaved_us != 0
                             ? delivery_batch(d) - lag->saved_batch : 0;
    s->saved_us = lag->saved_us;
    s->delivery_seconds = lag->seconds;
    if (s->capture == CONFIG_BY_FEED && delivery_is_restored(d))
        s->phase = FIGURES_FOLLOWS; /* how far it is its lag tells */
    if (p == NULL)
        return;
    s->phase = p->phase == POSITION_POLL ? FIGURES_FOLLOWS : FIGURES_SNAPSHOT;
    s->lsn = p->logical.lsn;
    s->xmax = p->identity.xmax;
    read_snapshot(s, d, p);
    s->is_reread = reread_is_due(&p->reread);
    s->reread_rows = p->reread.rows;
    reread_progress(&p->reread, &done, &total);
    s->reread_share = total > 0 ? (double)done / (double)total : 0;
}

bool publish_is_paused(const struct script *script, struct delivery *const *deliveries,
                       size_t source)
{
    for (size_t i = 0; i < script->n_sources; i++)
        if (delivery_is_with(deliveries[i], deliveries[source]) && script->sources[i].pauses > 0)
            return true;
    return false;
}

static void read_source(const struct publish *p, size_t i, struct figures_source *s)
{
    const struct api_source *source = &p->script->sources[i];

    set_name(s->name, source->name != NULL ? source->name :
                      source->config->name != NULL ? source->config->name : source->config->table);
    set_name(s->table, source->config->table);
    s->capture = source->config->capture;
    s->interval_ms = source->config->interval_max_ms;
    s->is_paused = source->pauses > 0 || source->is_paused ||
                   (p->deliveries != NULL && publish_is_paused(p->script, p->deliveries, i));
    s->is_paused_by_user = source->is_paused;
    s->user_paused_us = source->user_paused_us;
    memcpy(s->changes, source->delivered, sizeof s->changes);
    s->changed_us = source->delivered_us;
    s->handler_seconds = source->took;
    s->is_since_commit = source->config->capture == CONFIG_BY_LOGICAL ||
                         source->config->capture == CONFIG_BY_FEED; /* into its topic */
    if (p->deliveries != NULL)
        read_delivery(s, p->deliveries[i]);
    if (p->is_done[i])
        s->phase = FIGURES_DONE;
    if (p->script->is_member)
        s->phase = p->script->is_ready ? FIGURES_FOLLOWS : FIGURES_CONNECTS;
}

/* ---- publications ---- */

static uint64_t file_bytes(const char *path, const char *ending)
{
    char name[4096];
    struct stat st;

    return snprintf(name, sizeof name, "%s%s", path, ending) < (int)sizeof name &&
                   stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* What is told as of now, whatever the loop does. Another thread calls it. */
static void refresh(void *arg, struct figures *f)
{
    struct publish *p = arg;

    role_get(p->role, &f->role);
    if (p->deliveries == NULL)
        return; /* nothing is read yet */
    for (size_t i = 0; i < f->n_sources; i++)
        reader_meter(p->reader, i, &f->sources[i].meter);
    f->queue_bytes = queue_bytes(p->queue);
    if (p->state != NULL)
        f->state_bytes = file_bytes(p->state, "") + file_bytes(p->state, "-wal");
}

/* Without memory the figures stay as they are. <half>, which may be NULL, moves. */
static void publish(struct publish *p, struct script_figures *half)
{
    struct figures f = { .n_sources = p->script->n_sources, .script_half = half,
                         .lua_bytes = p->script->memory };

    role_get(p->role, &f.role);
    p->published_ms = clock_mono_ms();
    atomic_store_explicit(&p->beat.is_asked, false, memory_order_relaxed);
    f.sources = calloc(f.n_sources + 1, sizeof *f.sources);
    for (size_t i = 0; f.sources != NULL && i < f.n_sources; i++)
        read_source(p, i, &f.sources[i]);
    if (f.sources != NULL)
        figures_publish(p->board, &f);
    else
        figures_fini(&f);
}

void publish_tick(struct publish *p)
{
    if (p->board != NULL && clock_mono_ms() >= p->published_ms + PUBLISH_MS)
        publish(p, NULL);
}

void publish_turn(struct publish *p)
{
    int64_t now;

    if (p->board == NULL)
        return;
    beat_turn(&p->beat);
    now = clock_mono_ms();
    if (now < p->published_ms + PUBLISH_MS)
        return;
    if (p->is_watched && now >= p->asked_ms + ASK_MS)
        publish_now(p);
    else
        publish(p, NULL);
}

void publish_now(struct publish *p)
{
    struct script_figures *half = NULL;
    struct role_facts role;
    struct err e;

    role_get(p->role, &role);
    p->asked_ms = clock_mono_ms();
    if (role.kind == ROLE_STANDBY || !hooks_figures(p->script, &half, &e))
        half = NULL; /* the script has no memory left for them: they stay as they are */
    publish(p, half);
}

void publish_figures(struct publish *p, struct script_figures *half)
{
    publish(p, half);
}

void publish_soon(struct publish *p)
{
    p->published_ms = 0;
}

void publish_done(struct publish *p, size_t source)
{
    if (p->board != NULL)
        p->is_done[source] = true;
}

int64_t publish_wait_ms(const struct publish *p, int64_t wait_ms)
{
    return p->is_watched && (wait_ms < 0 || wait_ms > ASK_MS) ? ASK_MS : wait_ms;
}

/* ---- birth and death ---- */

bool publish_init(struct publish *p, struct script *script, const char *state, bool is_watched,
                  struct err *e)
{
    *p = (struct publish){ .script = script, .state = state, .is_watched = is_watched,
                           .role = script->role };
    p->is_done = calloc(script->n_sources + 1, sizeof *p->is_done);
    p->board = figures_board_new(script->o.version, script->o.path, &p->beat);
    if (p->is_done == NULL || p->board == NULL)
        return err_memory(e);
    figures_set_refresh(p->board, refresh, p);
    script->beat = &p->beat;
    script->is_timed = is_watched;
    publish(p, NULL);
    return true;
}

void publish_begin(struct publish *p, struct delivery **deliveries, struct queue *queue,
                   struct reader *reader)
{
    if (p->board != NULL) /* others look at them from now on */
        figures_set_refresh(p->board, NULL, NULL);
    p->deliveries = deliveries;
    p->queue = queue;
    p->reader = reader;
    if (p->board != NULL)
        figures_set_refresh(p->board, refresh, p);
}

void publish_end(struct publish *p)
{
    if (p->board != NULL)
        figures_set_refresh(p->board, NULL, NULL);
    p->deliveries = NULL;
}

void publish_fini(struct publish *p)
{
    figures_board_free(p->board);
    free(p->is_done);
    p->board = NULL;
    p->is_done = NULL;
}
