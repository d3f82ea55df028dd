/* liveness.h -- is the server still at work for a connection that is silent?
 *
 * TCP's keepalives find out a machine that is gone, not a proxy or a tunnel that
 * holds what it is given: there the kernel still answers. And no clock of ours
 * can tell a dead connection from a scan of an hour. So whoever waits for an
 * answer asks, after a while without a byte, over a second connection what the
 * server makes of the first: it works at a statement (or waits for a lock): wait
 * on. It knows nothing of it, or waits for us, while we wait for it: bytes are
 * lost. It does not answer: it is away. As with TCP's keepalives the first
 * question comes after keepalives_idle seconds, the others keepalives_interval
 * apart, and keepalives_count in a row without a good answer mean that the
 * connection is lost.
 *
 * Where the server behind the connection cannot be told (a pooler, an address
 * that leads to several servers) any answer is a good one.
 *
 * Never waits but in liveness_end_backend.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LIVENESS_H
#define LIVENESS_H

#include "pg/connect.h"

#include <poll.h>
#include <stdint.h>

struct liveness {
    const char *conninfo;        /* borrowed, as is the next one */
    const struct pg_conn *conn;  /* the connection that is asked about */
    struct connect_times times;
    long pid;                    /* the backend; 0: there is no telling */
    char began[32];              /* when it and the server began, as seconds */
    char booted[32];
    bool is_refused;             /* the server lets no second connection in: do not knock again */
    bool is_hurried;
    struct pg_conn *asking;      /* the second connection, while a question is under way */
    bool wants_write, is_asked;
    int64_t silent_ms;           /* since when */
    int64_t asked_ms, next_ms;
    unsigned n_bad;
    bool is_there;               /* by the last answer: the backend lives */
    char why[160];
};

/* What a new connection is to be asked, and its first answer: the text of the one value, NULL for
 * NULL. Before that, and where it was never asked, the backend cannot be told. <left>, or NULL: is
 * ended by that. */
#define LIVENESS_SQL 640
void liveness_put_question(const struct connect_orphan *left, char sql[LIVENESS_SQL]);
void liveness_take_answer(struct liveness *p, const char *answer);

/* <conn> is connected. */
void liveness_init(struct liveness *p, const char *conninfo, struct pg_conn *conn);
void liveness_fini(struct liveness *p);

/* A wait begins: until now all was well. */
void liveness_begin_wait(struct liveness *p);

/* The program was asked to stop: the first question comes soon and is the last. */
void liveness_hurry(struct liveness *p);

/* Goes on with what is under way. <fd>: what to poll for; *wait_ms: for how long at most (made
 * less). False if the connection is lost: ERR_CONNECTION. */
bool liveness_step(struct liveness *p, struct pollfd *fd, int64_t *wait_ms,
                   struct err *e) WARN_UNUSED;

/* Ends the backend, with what it works at or holds, over a second connection; where it cannot be
 * told, or there is no such connection, cancels what it works at, as poolers pass that on. Waits
 * for two seconds at most, whatever the server does. */
void liveness_end_backend(struct liveness *p);

/* Notes the backend, if it can be told. */
void liveness_record_orphan(const struct liveness *p, struct connect_orphan *left);

#endif
