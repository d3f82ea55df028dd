/* lead.c -- hands the pipeline over.
 * SPDX-License-Identifier: MIT */
#include "host/lead.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define PATIENCE_MS 15000 /* for which a standby waits for the leader to hand over */

enum lead_answer lead_ask(struct lead *l, uint64_t client, char text[LEAD_TEXT])
{
    struct role_facts facts;
    struct role_process next;
    enum lead_answer answer = LEAD_FAILED;

    role_get(l->role, &facts);
    if (facts.kind == ROLE_STANDBY && l->client == 0) {
        l->client = client;
        l->until_ms = clock_mono_ms() + PATIENCE_MS;
        role_wish(l->role);
        answer = LEAD_LATER;
    } else if (facts.kind == ROLE_STANDBY) {
        snprintf(text, LEAD_TEXT, "that is asked for already");
    } else if (facts.kind == ROLE_MEMBER) {
        snprintf(text, LEAD_TEXT, "who is at work on a partition, the group decides");
    } else if (facts.kind == ROLE_ALONE) {
        snprintf(text, LEAD_TEXT, "its state is in a file: there is no standby");
    } else if (!role_hand_over(l->role, &next)) {
        snprintf(text, LEAD_TEXT, "nobody waits for the pipeline: start the same command on another"
                 " machine first");
    } else {
        snprintf(text, LEAD_TEXT, "it hands over to %s, pid %" PRIu64 ", and waits then", next.host,
                 next.pid);
        answer = LEAD_DONE;
    }
    return answer;
}

static uint64_t take_client(struct lead *l)
{
    uint64_t client = l->client;

    l->client = 0;
    return client;
}

static void hand_over(struct lead *l)
{
    struct role_process next;
    uint64_t one = 1;
    int none = 0;

    role_next(l->role, &next);
    if (next.host[0] == '\0' || !atomic_compare_exchange_strong(&l->news->stop, &none, NEWS_RELOAD))
        return;
    log_text(l->log, LOG_INFO, "handing over", "to", next.host);
    if (write(l->news->stop_fd, &one, sizeof one) < 0) {
        /* a full counter is readable as well */
    }
}

uint64_t lead_turn(struct lead *l, char text[LEAD_TEXT])
{
    struct role_facts facts;

    hand_over(l);
    if (l->client == 0 || clock_mono_ms() < l->until_ms)
        return 0;
    role_get(l->role, &facts);
    snprintf(text, LEAD_TEXT, "%s, pid %" PRIu64 ", has not handed over yet: at the latest this one"
             " takes over when that lease ends", facts.leader.host, facts.leader.pid);
    return take_client(l);
}

uint64_t lead_begin(struct lead *l, const char *pipeline, char text[LEAD_TEXT])
{
    struct role_facts facts;

    role_get(l->role, &facts);
    if (facts.kind == ROLE_LEADER)
        log_text(l->log, LOG_INFO, "leads the pipeline", "pipeline", pipeline);
    snprintf(text, LEAD_TEXT, "it leads now, epoch %" PRIu64, facts.epoch);
    return take_client(l);
}

bool lead_is_elsewhere(struct lead *l, const char *pipeline, char text[LEAD_TEXT])
{
    struct role_facts facts;

    role_get(l->role, &facts);
    if (facts.kind == ROLE_MEMBER) {
        snprintf(text, LEAD_TEXT, "this is a member of a group, and its workers do that: ask the "
                 "one of a partition, such as --name %.300s/0", pipeline);
        return true;
    }
    snprintf(text, LEAD_TEXT, "this is a standby: ask %s, pid %" PRIu64 ", which is at work",
             facts.leader.host, facts.leader.pid);
    return facts.kind == ROLE_STANDBY;
}
