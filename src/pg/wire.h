/* wire.h -- what goes over a connection, with limits.
 *
 * A server may send anything: a COPY that nobody asked for, rows, notices or parameters without
 * end, or nothing. So each wait looks at the stop first, what comes is counted, and an answer that
 * the statement cannot have ends the connection, with ERR_ANSWER, whose text begins with the
 * statement. libpq takes a whole message into memory, 2 GB at most; the limits keep all else small.
 *
 * After a stop a connection that does not stop at once has less than a second, and only a server
 * that shows that it is at work (see liveness_hurry) has more: 15 seconds for all of its thread's
 * connections together.
 *
 * For pg/conn, which has a struct wire in each connection.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WIRE_H
#define WIRE_H

#include "base/beat.h"
#include "pg/liveness.h"
#include "pg/result.h"

struct wire {
    struct pg_conn *pg;
    int stop_fd; /* see conn_open */
    bool stops_at_once;
    bool is_stopping; /* the program is to stop, and this connection has noticed it */
    int64_t stopped_ms; /* when it has noticed that */
    struct beat *beat; /* of the thread that waits, borrowed; or NULL */
    bool is_lost;     /* no answer will come, or none is wanted */
    struct liveness liveness;
    void (*tell)(void *arg, bool is_over); /* of long waits, if liveness is curious */
    void *tell_arg;
    /* of the statement that runs: */
    char statement[64];   /* how it begins, for errors */
    int64_t deadline_ms;  /* by clock_mono_ms, or one of those below */
    size_t came, most;    /* bytes since something of the answer was read; how many may come */
    size_t came_stopping; /* bytes since the stop */
    size_t n_results;     /* that may still come */
    bool is_in_copy;      /* the server has begun a COPY that was not asked for */
    int64_t read_used_ms; /* wire_used_ms when something was read last */
    bool is_timed;        /* each look of libpq's for a line of COPY is timed, see wire_copy_next */
};

/* In place of a deadline: as long as the server is at work for us (see liveness.h); for ever. */
#define WIRE_WHILE_AT_WORK (-1)
#define WIRE_FOR_EVER (-2)

/* What may come while nothing of an answer does (notices, parameters, a row that is not whole). The
 * answer to a question of ours is small; a server makes no value, and no line of COPY, beyond
 * 1 GB. */
#define WIRE_ASKED_MAX ((size_t)16 << 20)
#define WIRE_ANY_MAX (((size_t)1 << 30) + WIRE_ASKED_MAX)

/* Sets <e> to ERR_CONNECTION and libpq's reason. Returns false. */
bool wire_fail(struct wire *w, struct err *e);

/* Waits until the socket is ready for one of <events>, or the deadline has passed, or the server is
 * known not to answer, or the program stops. */
bool wire_wait(struct wire *w, short events, int64_t deadline_ms, struct err *e) WARN_UNUSED;

/* A statement is to be sent. <most>: how many bytes may come before something of its answer is
 * read. */
void wire_begin(struct wire *w, const char *sql, size_t most);

/* The same, and sends <sql>, statements of our own. Their rows come one at a time. */
bool wire_query(struct wire *w, const char *sql, size_t most, struct err *e) WARN_UNUSED;

/* If <e> is ERR_ANSWER, puts the beginning of the statement before its text, and the connection
 * counts as lost: nothing more is read from it. Returns false. */
bool wire_fail_answer(struct wire *w, struct err *e);

/* How many bytes the kernel has for libpq to read. wire_count counts those that libpq has read
 * since then; <before>: what wire_unread returned before it read. */
size_t wire_unread(const struct wire *w);
bool wire_count(struct wire *w, size_t before, struct err *e) WARN_UNUSED;

/* wire_consume reads what has come, without waiting. wire_read waits for more of an answer and
 * reads it. wire_send sends all that libpq has not sent yet, and reads what comes meanwhile. */
bool wire_consume(struct wire *w, struct err *e) WARN_UNUSED;
bool wire_read(struct wire *w, struct err *e) WARN_UNUSED;
bool wire_send(struct wire *w, struct err *e) WARN_UNUSED;

/* The processor time that the thread has used, in milliseconds. wire_check_parsing: libpq has
 * searched what was read, and found nothing of an answer; <began_ms>: what wire_used_ms returned
 * when the search began. ERR_ANSWER if it took too long. */
int64_t wire_used_ms(void);
bool wire_check_parsing(struct wire *w, int64_t began_ms, struct err *e) WARN_UNUSED;

/* The next line of a COPY that the server sends, as PQgetCopyData, but waits for it: its length and
 * *line, for PQfreemem; -1: there are no more; -2: libpq failed; 0: <e> is set. */
int wire_copy_next(struct wire *w, char **line, struct err *e);

/* The next result, owned, or NULL: with *ok true the answer is over, with *ok false there is none:
 * the connection is lost or the program stops. Each row of a statement is a result of its own, and
 * a result without rows ends them. <copy>: the status that a result may have besides,
 * PGRES_COPY_OUT or PGRES_COPY_IN. */
struct pg_result *wire_next(struct wire *w, bool *ok, struct err *e);
struct pg_result *wire_next_or(struct wire *w, int copy, bool *ok, struct err *e);

/* Ends a statement that is under way. After a stop there is less time for it. */
void wire_end_backend(struct wire *w);

#endif
