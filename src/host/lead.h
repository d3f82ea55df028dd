/* lead.h -- hands the pipeline over: to a standby that wishes so, or by a user's command.
 *
 * On the host's thread. What others know of it is in state/role.h.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LEAD_H
#define LEAD_H

#include "base/log.h"
#include "host/news.h"
#include "state/role.h"

/* All borrowed. */
struct lead {
    struct role *role;
    struct news *news;
    struct log *log;
    uint64_t client;  /* who waits for this standby to lead; 0: nobody */
    int64_t until_ms; /* then it is told that it does not */
};

#define LEAD_TEXT 700 /* bytes of an answer */

enum lead_answer { LEAD_DONE, LEAD_FAILED, LEAD_LATER };

/* The command: a standby asks the leader to hand over, a leader hands over to a standby. Writes the
 * answer, unless that comes later, by lead_turn or lead_begin. */
enum lead_answer lead_ask(struct lead *l, uint64_t client, char text[LEAD_TEXT]);

/* Ends this run, to be run anew as a standby, if another process is to lead. Returns the client to
 * whom <text>, a failure, is to be told; 0: nobody. */
uint64_t lead_turn(struct lead *l, char text[LEAD_TEXT]);

/* This process leads from now on. The same for <text>, no failure. */
uint64_t lead_begin(struct lead *l, const char *pipeline, char text[LEAD_TEXT]);

/* True if this is a standby, or a member of a group; <text>: who does what it does not. */
bool lead_is_elsewhere(struct lead *l, const char *pipeline, char text[LEAD_TEXT]);

#endif
