/* source.c -- everything that a reader keeps of one source.
 * SPDX-License-Identifier: MIT */
#include "capture/source.h"

#include "base/clock.h"
#include "capture/second_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void source_init(struct source *s, const struct config *config, size_t number)
{
    *s = (struct source){ .config = config, .number = number };
}

void source_fini(struct source *s)
{
    struct message *m;

    while ((m = source_take_message(s)) != NULL)
        message_free(m);
    begin_facts_fini(&s->facts);
    position_fini(&s->position);
    xidset_fini(&s->restored_seen);
    source_forget_polled(s);
    log_leaves_fini(&s->log_leaves);
    log_columns_fini(&s->log_columns);
    hints_fini(&s->hints.rule);
    free(s->hints.function);
    second_reader_free(s->second);
}

bool source_counts_keys(const struct source *s)
{
    return s->config->deletes || (s->position.is_learned && s->position.logical.lsn == 0 &&
                                  config_tells_deletes(s->config));
}

bool source_keeps_by_log(const struct source *s)
{
    return s->position.is_learned && s->position.logical.lsn != 0 &&
           s->config->capture == CONFIG_BY_LOGICAL;
}

bool source_has_hashes(const struct source *s)
{
    return source_counts_keys(s) || source_keeps_by_log(s);
}

bool source_restore(struct source *s, const struct position *kept)
{
    position_fini(&s->position);
    s->durable = (struct horizon_durable){ .xmax = kept->identity.durable_xmax,
                                           .lsn = kept->identity.durable_lsn };
    if (!position_copy(&s->position, kept))
        return false;
    s->reread_wait = (struct source_reread){ .waits = true, .lsn = UINT64_MAX };
    /* triggers will take over this position of another method: they read the tombstones that were
     * written since it was taken */
    if (s->config->capture != CONFIG_BY_TRIGGER || kept->stamps.is_used)
        return true;
    s->position.stamps.tombstone_floor = kept->horizon.floor;
    return xidset_copy(&s->restored_seen, &kept->horizon.seen);
}

void source_keep_identity(struct source *s)
{
    struct identity *id = &s->facts.identity;

    if (id->in_recovery) {
        /* read after the snapshot, it may count commits that the snapshot does not show */
        if (s->glance_lsn != 0 && s->glance_lsn < id->lsn)
            id->lsn = s->glance_lsn;
        s->durable = (struct horizon_durable){ .xmax = s->facts.snapshot.xmax, .lsn = id->lsn };
    } else {
        horizon_add_durable(&s->durable, s->facts.snapshot.xmax, id->lsn);
        horizon_flush_durable(&s->durable, id->flush_lsn);
    }
    if (s->position.floor_lsn != 0 && id->flush_lsn >= s->position.floor_lsn)
        s->position.floor_lsn = 0;
    id->durable_xmax = s->durable.xmax;
    id->durable_lsn = s->durable.lsn;
    s->position.identity = *id;
}

uint64_t source_durable_bound(const struct source *s)
{
    return s->position.identity.in_recovery ? HORIZON_UNBOUNDED : s->durable.xmax;
}

bool source_reads_whole(const struct source *s)
{
    return s->config->is_joint && s->position.phase == POSITION_SNAPSHOT &&
           s->position.n_leaves == 0;
}

void source_forget_polled(struct source *s)
{
    free(s->polled);
    s->polled = NULL;
}

void source_end_poll(struct source *s)
{
    if (s->round.is_passed)
        return;
    s->round.known = s->round.asked;
    s->round.is_known = s->round.is_asked;
    s->round.polled_ms = clock_mono_ms();
}

/* Adds a notice if partitions were lost: their rows leave no tombstones. */
static bool tell_of_lost_leaves(struct source *s, struct err *e)
{
    const struct position *p = &s->position;
    size_t lost = 0;
    char text[128];

    for (size_t i = 0; i < p->n_leaves; i++)
        lost += relation_leaf(&s->facts.table, p->leaves[i].oid) == NULL;
    if (lost == 0 || p->phase != POSITION_POLL || (!p->stamps.is_used && p->logical.lsn == 0))
        return true;
    snprintf(text, sizeof text, "%zu of the partitions were detached or dropped: no deletes come "
             "for their rows", lost);
    return source_add_notice(s, LOG_WARN, text, e);
}

/* True if the position knows all leaves of the facts, with these files. */
static bool knows_files(struct position *p, const struct relation *t)
{
    for (size_t i = 0; i < t->n_leaves; i++) {
        const struct position_leaf *known = position_leaf(p, t->leaves[i].oid);

        if (known == NULL || known->filenode != t->leaves[i].filenode)
            return false;
    }
    return true;
}

bool source_know_leaves(struct source *s, struct err *e)
{
    const struct relation *t = &s->facts.table;

    if (!tell_of_lost_leaves(s, e))
        return false;
    if (!knows_files(&s->position, t)) /* the note that is kept is not one of these */
        s->position.hint_xid = s->position.hint_lsn = 0;
    if (!position_set_leaves(&s->position, t->n_leaves))
        return err_memory(e);
    for (size_t i = 0; i < t->n_leaves; i++)
        s->position.leaves[i] = (struct position_leaf){ .oid = t->leaves[i].oid,
                                                        .filenode = t->leaves[i].filenode,
                                                        .blocks = t->leaves[i].blocks };
    return true;
}

/* ---- messages ---- */

struct message *source_take_message(struct source *s)
{
    return queue_list_is_empty(&s->news) ? NULL : message_of(queue_list_take(&s->news));
}

static bool add_text(struct source *s, enum message_kind kind, enum log_level level,
                     const char *text, struct err *e)
{
    struct message *m = message_new(kind, s->number);

    if (m == NULL)
        return err_memory(e);
    m->notice.level = level;
    err_set(&m->notice.err, ERR_NONE, "%s", text);
    queue_list_push(&s->news, &m->item);
    return true;
}

bool source_add_notice(struct source *s, enum log_level level, const char *text, struct err *e)
{
    return add_text(s, MESSAGE_NOTICE, level, text, e);
}

bool source_add_reread(struct source *s, const char *text, struct err *e)
{
    return add_text(s, MESSAGE_REREAD, LOG_INFO, text, e);
}

/* A message that says nothing but its kind. */
static bool add_bare(struct source *s, enum message_kind kind, struct err *e)
{
    struct message *m = message_new(kind, s->number);

    if (m == NULL)
        return err_memory(e);
    queue_list_push(&s->news, &m->item);
    return true;
}

bool source_add_reading(struct source *s, struct err *e)
{
    return add_bare(s, MESSAGE_READING, e);
}

bool source_add_ready(struct source *s, struct err *e)
{
    if (s->is_ready)
        return true;
    s->is_ready = add_bare(s, MESSAGE_READY, e);
    return s->is_ready;
}

/* The position knows the columns of the facts from now on. */
static bool know_columns(struct position *p, const struct rowtype *now, struct err *e)
{
    char *copy;

    if (p->columns != NULL && strcmp(p->columns, now->columns_text) == 0)
        return true;
    if ((copy = strdup(now->columns_text)) == NULL)
        return err_memory(e);
    free(p->columns);
    p->columns = copy;
    return true;
}

bool source_add_schema(struct source *s, struct err *e)
{
    struct position *p = &s->position;
    const char *now = s->facts.rowtype->signature;
    char *copy;

    if (!know_columns(p, s->facts.rowtype, e))
        return false;
    if (p->signature != NULL && strcmp(p->signature, now) == 0)
        return true;
    if ((copy = strdup(now)) == NULL)
        return err_memory(e);
    if (p->signature != NULL) {
        struct message *m = message_new(MESSAGE_SCHEMA, s->number);

        if (m == NULL || (m->schema.new_signature = strdup(now)) == NULL) {
            message_free(m);
            free(copy);
            return err_memory(e);
        }
        m->schema.old_signature = p->signature; /* moves */
        queue_list_push(&s->news, &m->item);
    }
    p->signature = copy;
    return true;
}

bool source_check_resume_points(struct source *s, struct err *e)
{
    size_t n;

    position_forget_other_scopes(&s->position, s->facts.rowtype->scope, &n);
    return n == 0 ||
           source_add_notice(s, LOG_WARN, "the columns that tell rows apart have changed since the "
                             "program was stopped in the middle of a transaction: its rows come "
                             "again", e);
}
