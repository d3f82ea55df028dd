/* liveness.h -- tells whether the server is still at work for a connection that is silent.
 *
 * TCP's keepalives find a machine that has disappeared. They do not find a proxy or
 * a tunnel that does not pass on what it gets, since its kernel still answers. And no
 * time limit can tell a dead connection from a scan that takes an hour. So after a while
 * without a byte a second connection asks the server about the first one:
 *   - the server works at our statement, or waits for a lock: wait on;
 *   - it does not know the first connection, or it waits for us while we wait for
 *     it: bytes were lost;
 *   - it does not answer: the server, or the way to it, is down.
 * As with TCP's keepalives the first question is asked after keepalives_idle seconds,
 * the next ones keepalives_interval apart. After keepalives_count bad answers in a
 * row the connection counts as lost.
 *
 * If it is unknown which backend serves the connection (there is a pooler, or an
 * address that leads to several servers), every answer counts as good.
 *
 * Once the program is to stop it is the other way round, see liveness_hurry: the server must show
 * that it is at work at our statement, and is asked at once and again and again.
 *
 * Only liveness_end_backend blocks. (The name of a host may have to be looked up, see
 * connect.h.)
 *
 * SPDX-License-Identifier: MIT */
#ifndef LIVENESS_H
#define LIVENESS_H

#include "pg/connect.h"

#include <stddef.h>
#include <stdint.h>

struct pollfd;

enum liveness_work {
    LIVENESS_UNKNOWN, /* nothing is known of what the server does for us */
    LIVENESS_WORKS,
    LIVENESS_LOCKED, /* the statement waits for a lock */
};

struct liveness {
    const char *conninfo;        /* borrowed, as is <conn> */
    const struct pg_conn *conn;  /* the connection that is asked about */
    struct connect_times times;
    long pid;                    /* of the backend; 0: unknown */
    char began[32];              /* when the backend began, in seconds */
    char booted[32];             /* when the server was started */
    bool is_refused;             /* the server refuses a second connection: it is not tried again */
    int64_t hurry_ms;            /* how long the server may show nothing; 0: it is not hurried */
    int64_t shown_ms;            /* when it last showed that it is at work, or when the statement or
                                  * the hurry began */
    struct pg_conn *asking;      /* the second connection, while a question is under way */
    bool wants_write;            /* the second connection waits until it can write, not read */
    bool is_asked;               /* the question was sent on it */
    int64_t silent_ms;           /* when the last byte came, or the wait began */
    int64_t asked_ms, next_ms;   /* when a question was asked last, and when the next one is due */
    unsigned n_bad;              /* bad answers in a row */
    bool is_there;               /* the last answer said that the backend exists */
    char why[160];               /* why the last bad answer was bad */
    bool is_curious;             /* somebody wants to know why a wait is long: a first question
                                  * comes early, and a bad answer to it does not count */
    enum liveness_work work;     /* what the last answer in this wait said */
    char holders[100];           /* LIVENESS_LOCKED: ", which ... holds"; or "" */
};

/* liveness_put_question writes the SQL that a new connection runs first; liveness_take_answer takes
 * each result of it. Until then the backend's pid is unknown, so the backend cannot be
 * ended. The SQL also lifts a role's idle_session_timeout, since a connection is idle from poll to
 * poll. <left>, or NULL: a backend that it ends besides. */
#define LIVENESS_SQL 800
void liveness_put_question(const struct connect_orphan *left, char sql[LIVENESS_SQL]);
void liveness_take_answer(struct liveness *p, const struct pg_result *res);

/* <conn> is connected. <conn> and <conninfo> are borrowed until liveness_fini. */
void liveness_init(struct liveness *p, const char *conninfo, struct pg_conn *conn);
void liveness_fini(struct liveness *p);

/* liveness_begin_statement: a statement begins. liveness_take_progress: the server has taken some
 * of what is sent to it, or until now nobody has waited for it. */
void liveness_begin_statement(struct liveness *p);
void liveness_take_progress(struct liveness *p);

/* A wait begins. Drops a question that is under way, and forgets bad answers. */
void liveness_begin_wait(struct liveness *p);

/* The program was asked to stop: from now on bytes that come say nothing. Where the server does not
 * show for <most_ms> that it is at work, or cannot (there is a pooler, or keepalives=0), the
 * connection is lost. */
void liveness_hurry(struct liveness *p, int64_t most_ms);

/* Asks the server, or reads its answer, if it is time. Then the caller waits for the connection,
 * and calls again: sets <fd> to what else to poll for (its fd is -1 if there is nothing), and
 * lowers *wait_ms (-1: no limit) to how long the caller may wait. False, with ERR_CONNECTION, if
 * the connection is lost. */
bool liveness_step(struct liveness *p, struct pollfd *fd, int64_t *wait_ms,
                   struct err *e) WARN_UNUSED;

/* While <is_curious>: true if the wait is a long one, and it is known why, or has been asked in
 * vain; else lowers *wait_ms (-1: no limit) to when that may be. */
bool liveness_is_long(const struct liveness *p, int64_t *wait_ms);

/* Writes, for people, what is waited for and how long, and, <is_over>, that it is over. */
void liveness_describe(const struct liveness *p, bool is_over, char *text, size_t size);

/* Ends the backend, and so its statement and its locks, over a second connection. If its pid is
 * unknown, or the server refuses a second connection, cancels its statement instead, which poolers
 * pass on. Blocks two seconds at most, and <stopping_ms> once <stop_fd> (see conn_open) is
 * readable. */
void liveness_end_backend(struct liveness *p, int stop_fd, int64_t stopping_ms);

/* Sets <left> to the backend, if its pid is known. */
void liveness_record_orphan(const struct liveness *p, struct connect_orphan *left);

#endif
