/* kafka_client.h -- one producer of librdkafka, with a thread for its calls that block.
 *
 * A *task* is such a call. There is one at a time: kafka_client_start, then kafka_client_result
 * until it is done. Messages and what becomes of them (*reports*) are the caller's thread's alone.
 * Nothing here blocks but kafka_client_step, for as long as it is told.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KAFKA_CLIENT_H
#define KAFKA_CLIENT_H

#include "sinks/kafka_task.h"

/* A message that did not get there. */
struct kafka_client_failure {
    size_t index; /* as it was given with the message */
    rd_kafka_resp_err_t code;
};

struct kafka_client;

/* Makes one of <n> pairs of a name and a value. Returns owned, or NULL and why in <why>. The second
 * one only tells whether librdkafka takes them. */
struct kafka_client *kafka_client_open(const char *const *pairs, size_t n, char *why, size_t size);
bool kafka_client_check(const char *const *pairs, size_t n, char *why, size_t size);

/* Ends it, in the background. NULL is legal. */
void kafka_client_close(struct kafka_client *c);

/* False if there is no memory. */
bool kafka_client_start(struct kafka_client *c, const struct kafka_task_request *r) WARN_UNUSED;

/* The answer to the task, borrowed until the next one; NULL: not yet. */
const struct kafka_task_answer *kafka_client_result(struct kafka_client *c);

/* From now on no message is taken while there are as many without a report, or such bytes. (The
 * queue of librdkafka has such limits, too; but it takes a message that is larger never.) */
void kafka_client_limit(struct kafka_client *c, size_t messages, size_t bytes);

/* Hands a message over, for which it takes <headers> if it returns NULL, else an owned error.
 * A <topic> ends with NUL; <key> and <value> may be NULL. */
struct kafka_client_message {
    size_t index;
    const char *topic, *key, *value;
    size_t key_len, value_len;
    rd_kafka_headers_t *headers;
};
rd_kafka_error_t *kafka_client_produce(struct kafka_client *c,
                                       const struct kafka_client_message *m);

/* Takes reports and news, for which it waits so long. Returns false if nothing has come. */
bool kafka_client_step(struct kafka_client *c, int ms);

/* Messages without a report yet; and those that failed, whose number is set. */
size_t kafka_client_outstanding(const struct kafka_client *c);
const struct kafka_client_failure *kafka_client_failures(const struct kafka_client *c, size_t *n);

/* The newest trouble with brokers since the last call, borrowed until the next step; NULL: none. */
const struct kafka_task_problem *kafka_client_trouble(struct kafka_client *c);

/* Forgets failures and what is outstanding: a new batch begins. */
void kafka_client_begin(struct kafka_client *c);

#endif
