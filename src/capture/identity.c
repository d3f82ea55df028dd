/* identity.c -- whether this is still the server that the position was taken on.
 *
 * Checked on 14.23, 15.18 and 18.4. The mark of a crash: recovery resets the statistics, also
 * recovery after a single backend was killed, which does not change the postmaster's start time. A
 * clean restart changes that time, keeps the statistics, and undoes nothing. The timeline of a
 * primary is that of its WAL file, since that of the control file stays old for minutes after a
 * fast promotion.
 *
 * Two standbys on one timeline replay one history, so one that lags will come to where we were. The
 * xids that a standby shows are the primary's, which flushed them before it sent them: the restart
 * of a standby takes nothing back.
 *
 * SPDX-License-Identifier: MIT */
#include "capture/identity.h"

#include <stdio.h>
#include <string.h>

/* The columns of sql_facts after the snapshot; those of sql_glance end before F_SYSTEM. */
enum { F_STARTED, F_STATS, F_RECOVERY, F_LSN, F_FLUSH, F_SYSTEM, F_DATABASE, F_TIMELINE };

static bool copy_text(char *to, size_t size, const struct result *r, size_t col)
{
    const char *s = result_text(r, 0, col);

    return (size_t)snprintf(to, size, "%s", s) < size;
}

static bool fail_nameless(struct err *e)
{
    return err_set(e, ERR_ANSWER, "the server says at too great length who it is");
}

bool identity_read_glance(struct identity *id, const struct result *r, size_t col, struct err *e)
{
    id->in_recovery = result_bool(r, 0, col + F_RECOVERY);
    id->lsn = result_u64(r, 0, col + F_LSN);
    id->flush_lsn = result_u64(r, 0, col + F_FLUSH);
    return (copy_text(id->started, sizeof id->started, r, col + F_STARTED) &&
            copy_text(id->stats, sizeof id->stats, r, col + F_STATS)) || fail_nameless(e);
}

void identity_share_glance(struct identity *to, const struct identity *from)
{
    to->in_recovery = from->in_recovery;
    to->lsn = from->lsn;
    to->flush_lsn = from->flush_lsn;
    memcpy(to->started, from->started, sizeof to->started);
    memcpy(to->stats, from->stats, sizeof to->stats);
}

bool identity_read(struct identity *id, const struct result *r, size_t col, struct err *e)
{
    *id = (struct identity){
        .database = result_u32(r, 0, col + F_DATABASE),
        .timeline = result_u32(r, 0, col + F_TIMELINE),
    };
    if (!copy_text(id->system, sizeof id->system, r, col + F_SYSTEM))
        return fail_nameless(e);
    return identity_read_glance(id, r, col, e);
}

static enum identity_verdict say(enum identity_verdict v, char *why, size_t size, const char *text)
{
    snprintf(why, size, "%s", text);
    return v;
}

static enum identity_verdict compare_standby(const struct identity *then,
                                             const struct identity *now, char *why, size_t size)
{
    uint64_t lsn = then->in_recovery ? then->lsn : then->durable_lsn;

    if (now->timeline != then->timeline)
        return say(IDENTITY_FAILED_OVER, why, size,
                   "the timeline changed: a failover or a restore");
    if (now->lsn < lsn)
        return say(IDENTITY_BEHIND, why, size,
                   "this standby has not replayed yet what was read before");
    if (!then->in_recovery)
        return say(IDENTITY_CRASHED, why, size, "a standby answers where the primary did");
    return now->xmax < then->xmax
               ? say(IDENTITY_FAILED_OVER, why, size, "transaction ids went back: a restore")
               : IDENTITY_SAME;
}

static enum identity_verdict compare_primary(const struct identity *then,
                                             const struct identity *now, char *why, size_t size)
{
    bool restarted = strcmp(then->started, now->started) != 0;
    bool crashed = strcmp(then->stats, now->stats) != 0;

    if (then->in_recovery) {
        if (restarted)
            return say(IDENTITY_FAILED_OVER, why, size,
                       "another server, a primary, answers where the standby did");
    } else if (now->timeline != then->timeline) {
        return say(IDENTITY_FAILED_OVER, why, size,
                   "the timeline changed: a failover or a restore");
    }
    if (crashed && !then->in_recovery
            ? now->xmax < then->durable_xmax || now->lsn < then->durable_lsn
            : now->xmax < then->xmax || now->lsn < then->lsn)
        return say(IDENTITY_FAILED_OVER, why, size,
                   "transaction ids or the WAL position went back: a failover or a restore");
    if (then->in_recovery)
        return say(IDENTITY_PROMOTED, why, size, "the standby was promoted");
    return crashed ? say(IDENTITY_CRASHED, why, size, "the server crashed") : IDENTITY_SAME;
}

enum identity_verdict identity_compare(const struct identity *then, const struct identity *now,
                                       char *why, size_t why_size)
{
    *why = '\0';
    if (strcmp(then->system, now->system) != 0)
        return say(IDENTITY_OTHER, why, why_size,
                   "another cluster (its system identifier differs)");
    if (then->database != now->database)
        return say(IDENTITY_OTHER, why, why_size, "another database");
    return now->in_recovery ? compare_standby(then, now, why, why_size)
                            : compare_primary(then, now, why, why_size);
}
