/* stream_connect.c -- how a stream of the log begins: at which server, from where on.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_connect.h"

#include "capture/slot_holder.h"

#include <string.h>

bool stream_connect_check(struct source *s, const struct identity *now, struct err *e)
{
    enum identity_verdict verdict;
    char why[128];

    verdict = identity_compare(&s->position.identity, now, why, sizeof why);
    if (verdict != IDENTITY_SAME)
        log_floor_forget(&s->log_floor);
    switch (verdict) {
    case IDENTITY_SAME:
    case IDENTITY_PROMOTED:
    case IDENTITY_CRASHED:
        return true;
    case IDENTITY_FAILED_OVER:
    case IDENTITY_BEHIND:
    case IDENTITY_OTHER:
        break;
    }
    err_set(e, ERR_SQL, "%s", why);
    memcpy(e->sqlstate, "55000", sizeof "55000");
    return false;
}

struct replication *stream_connect_start(const struct config *config,
                                         const struct replication_request *request,
                                         struct conn *conn, struct connect_orphan *left,
                                         struct err *e)
{
    struct replication *r = slot_holder_open(config, conn, left, e);

    if (r != NULL &&
        (!config->has_failover || replication_set_failover(r, config->slot, e)) &&
        replication_start(r, request, e))
        return r;
    replication_close(r, left);
    return NULL;
}
