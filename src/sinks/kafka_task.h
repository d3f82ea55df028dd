/* kafka_task.h -- a call of librdkafka that blocks: what is asked for, and what comes of it.
 *
 * Knows no threads: kafka_task_run blocks for as long as the request says.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KAFKA_TASK_H
#define KAFKA_TASK_H

#include "base/warn.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>

/* What a task does:
 *   CONNECT   asks for the brokers: the cluster's id, their number, and whether there is <topic>
 *   CREATE    makes <topic>, of one partition; one that is there is as good
 *   INIT      fences who had the transactional id before, and ends his transaction
 *   RECALL    the offset of partition 0 of <topic> in <group>, and the text with it
 *   OFFSETS   the same become <number> and <text>, as part of the transaction
 *   FLUSH     what was handed over goes without waiting for more; it ends when all has reports,
 *             which the caller takes meanwhile */
enum kafka_task_kind {
    KAFKA_TASK_CONNECT,
    KAFKA_TASK_CREATE,
    KAFKA_TASK_INIT,
    KAFKA_TASK_RECALL,
    KAFKA_TASK_BEGIN,
    KAFKA_TASK_OFFSETS,
    KAFKA_TASK_COMMIT,
    KAFKA_TASK_ABORT,
    KAFKA_TASK_FLUSH,
    KAFKA_TASK_COUNT
};

/* Borrowed text. */
struct kafka_task_request {
    enum kafka_task_kind kind;
    int ms; /* how long it may take */
    const char *topic, *group;
    const char *text;
    size_t len;
    int64_t number;
    bool is_compact;
    bool is_quick; /* the newest position counts, also while a transaction has another one */
};

struct kafka_task_problem {
    rd_kafka_resp_err_t code;
    char text[512];
    bool is_fatal, is_retriable;
};

struct kafka_task_answer {
    bool is_ok;
    struct kafka_task_problem problem; /* unless it is ok */
    char *text; /* owned by the task; or NULL */
    size_t len;
    int64_t number;
    bool is_there;
};

/* The caller sets the first two, the rest is 0 at first. */
struct kafka_task {
    rd_kafka_t *rk; /* a producer, borrowed, as is the next one */
    const rd_kafka_conf_t *conf; /* what it was made of */
    struct kafka_task_request request;
    char *topic, *group, *text; /* owned, what <request> refers to */
    rd_kafka_t *consumer;       /* owned; NULL: no task needs one */
    bool is_consumer_quick;     /* as the request that made it */
    struct kafka_task_answer answer;
};

void kafka_task_set_problem(struct kafka_task_problem *p, rd_kafka_resp_err_t code,
                            const char *text);

/* Takes a copy of the request; there is no answer yet. False if there is no memory. */
bool kafka_task_set(struct kafka_task *t, const struct kafka_task_request *r) WARN_UNUSED;

/* Does it, and sets the answer. */
void kafka_task_run(struct kafka_task *t);

void kafka_task_fini(struct kafka_task *t);

#endif
