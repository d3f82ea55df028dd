/* nats_conn.h -- a connection to NATS by libnats: messages for JetStream, and what it answers.
 *
 * A thread connects, publishes and ends the connection; libnats has threads of its own, which
 * bring answers. The caller's thread is never blocked but by nats_conn_wait, and nothing here knows
 * Lua. A connection is used by one thread. There is no second try: when it is broken it is freed.
 *
 *    publish ──> queue ──> thread ──> server ──> answer: a plain yes is counted, and the lane is
 *                                                free again; others are kept, and the lane is
 *                                                free when the caller has taken them
 *    ask ──────> queue ──> thread ──> server ──> answers: all are kept, for nats_conn_answer
 *
 * SPDX-License-Identifier: MIT */
#ifndef NATS_CONN_H
#define NATS_CONN_H

#include "sinks/nats_item.h"
#include "sinks/nats_login.h"

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nats_conn;

enum nats_conn_state {
    NATS_CONN_CONNECTING, NATS_CONN_CONNECTED,
    NATS_CONN_BROKEN, /* another one may work */
    NATS_CONN_DENIED, /* login or privileges */
};

enum nats_conn_result {
    NATS_CONN_TAKEN,
    NATS_CONN_FULL, /* too many are unanswered */
    NATS_CONN_LANE, /* one of the same lane is */
    NATS_CONN_TOO_LARGE, /* see nats_conn_too_large */
    NATS_CONN_NO_MEMORY,
};

struct nats_conn_answer {
    struct nats_conn_answer *next;
    bool is_of_message; /* else of a question */
    int64_t number;     /* that publish or ask was given */
    natsMsg *msg;
};

/* Begins to connect. <window>: how many published messages may be unanswered. Returns NULL without
 * memory, or if there can be no more threads. */
struct nats_conn *nats_conn_new(const struct nats_login *login, unsigned window);

/* Ends the connection, in the background. What was published and not sent yet is not sent any
 * more. NULL is taken. */
void nats_conn_free(struct nats_conn *c);

/* <failure> gets why it is broken or denied. */
enum nats_conn_state nats_conn_state(struct nats_conn *c, char failure[], size_t size);

/* Waits for <ms> at most: with <is_for_all> until everything that was published is answered, after
 * a message that was not taken until it can be, else until something has come of the connection. An
 * answer to be taken, or a failure, ends the wait. Returns true if something has come, of whatever
 * kind, since it was called last. */
bool nats_conn_wait(struct nats_conn *c, int ms, bool is_for_all);

/* Sends a message whose answer is an acknowledgement. <lane>: see NATS_CONN_LANE. */
enum nats_conn_result nats_conn_publish(struct nats_conn *c, int64_t number, uint64_t lane,
                                        const struct nats_item_message *m);

/* From now on what is published is to be stored one after the other, the first one after the
 * message of this sequence: the server refuses those before which another one comes in between,
 * and all after it that are on their way; so it does those after one that it has already. 0: it
 * takes them in any case, as it does at first. <origin>, <own>: see nats_fence.h. To be called when
 * nothing is unanswered. */
void nats_conn_expect(struct nats_conn *c, uint64_t last, uint64_t origin, uint64_t own);

/* How many bytes the message had that was too large. */
size_t nats_conn_too_large(const struct nats_conn *c);

/* Sends a message whose answers are all of interest. */
enum nats_conn_result nats_conn_ask(struct nats_conn *c, int64_t number,
                                    const struct nats_item_message *m);

/* How many published messages are unanswered. */
unsigned nats_conn_in_flight(struct nats_conn *c);

/* The next answer that was kept, or NULL. The caller frees it. */
struct nats_conn_answer *nats_conn_answer(struct nats_conn *c);
void nats_conn_answer_free(struct nats_conn_answer *a);

/* The most bytes that a message can have, headers and data; and where the server is. They are
 * known once it is connected. */
int64_t nats_conn_max_payload(struct nats_conn *c);
const char *nats_conn_address(struct nats_conn *c);

#endif
