/* feed.h -- changes that the Lua half brings, on their way to delivery.
 *
 * They wait in a list, not in the queue: who feeds is the thread that delivers. It is asked for
 * more when there is nothing else to do, so that few wait.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FEED_H
#define FEED_H

#include "capture/message.h"
#include "capture/reader.h"
#include "host/delivery.h"
#include "host/member.h"
#include "host/steer.h"
#include "lua/script.h"

struct feed {
    struct script *script;      /* borrowed, as the next */
    struct member *member;      /* is told where sources begin */
    struct queue_list messages; /* that were fed */
    bool has_sources;           /* some are fed */
};

/* From now on <f> takes what the Lua half feeds; zeroed before. */
void feed_open(struct feed *f, struct script *s, struct member *m);
void feed_close(struct feed *f);

/* Finds where the sources that are fed go on, and begins. */
bool feed_start(struct feed *f, struct delivery *const *deliveries, struct steer *steer,
                enum reader_mode mode, struct err *e) WARN_UNUSED;

/* The next message, owned; NULL: there is none. */
struct message *feed_take(struct feed *f);

/* Asks for more. *is_idle: nothing has come. */
bool feed_fetch(struct feed *f, bool *is_idle, struct err *e) WARN_UNUSED;

#endif
