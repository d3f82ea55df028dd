/* nats_conn.c -- a connection to NATS. See nats_conn.h.
 * SPDX-License-Identifier: MIT */
#include "sinks/nats_conn.h"

#include "sinks/nats_fence.h"
#include "sinks/nats_flight.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_BYTES ((size_t)4 << 20) /* of messages that are unanswered */
#define MOST_SIGNATURES 8            /* that are tried */

/* <lock> is for all fields from <state> on. Those before it do not change. */
struct nats_conn {
    struct nats_login login;
    pthread_mutex_t lock;
    pthread_cond_t moved, work; /* for the caller; for the thread */
    enum nats_conn_state state;
    char failure[512];
    bool is_free, has_ended;       /* the caller has freed it; the thread has ended */
    bool is_closed, is_complete;   /* libnats will not call us any more */
    uint64_t moves, seen;          /* what has come of it; what of that nats_conn_wait told */
    enum { ANYTHING, ROOM, LANE, ALL } awaited; /* what the caller waits for */
    uint64_t awaited_lane;
    struct nats_item *first, **end;     /* the queue */
    struct nats_conn_answer *first_answer, **end_answer;
    struct nats_flight flight;
    struct nats_fence fence; /* of the caller's thread, as the next is */
    size_t too_large;
    int64_t max_payload;
    char address[256];
    /* of the thread */
    natsConnection *nc;
    natsSubscription *sub;
    natsInbox *inbox;
};

/* ---- making and freeing ---- */

void nats_conn_answer_free(struct nats_conn_answer *a)
{
    if (a != NULL)
        natsMsg_Destroy(a->msg);
    free(a);
}

/* Frees the memory. Nobody uses it any more. */
static void destroy(struct nats_conn *c)
{
    while (c->first_answer != NULL)
        nats_conn_answer_free(nats_conn_answer(c));
    nats_item_free_all(c->first);
    nats_login_fini(&c->login);
    nats_flight_fini(&c->flight);
    nats_fence_fini(&c->fence);
    pthread_cond_destroy(&c->moved);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void init_lock(struct nats_conn *c)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->moved, &attr);
    pthread_cond_init(&c->work, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&c->lock, NULL);
}

static void *work(void *conn);

/* Signals are for the main thread: this one, and those that libnats makes in it, take none. */
static bool start_thread(struct nats_conn *c)
{
    pthread_t thread;
    sigset_t all, before;
    bool ok;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ok = pthread_create(&thread, NULL, work, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        pthread_detach(thread);
    return ok;
}

struct nats_conn *nats_conn_new(const struct nats_login *login, unsigned window)
{
    struct nats_conn *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
#ifdef M_ARENA_MAX
    /* One thread makes messages, which another one frees. By itself malloc would keep much for
     * each of the threads that are yet to come. */
    mallopt(M_ARENA_MAX, 1);
#endif
    init_lock(c);
    c->end = &c->first;
    c->end_answer = &c->first_answer;
    if (nats_login_copy(&c->login, login) && nats_flight_init(&c->flight, window) &&
        start_thread(c))
        return c;
    destroy(c);
    return NULL;
}

void nats_conn_free(struct nats_conn *c)
{
    bool is_last;

    if (c == NULL)
        return;
    pthread_mutex_lock(&c->lock);
    c->is_free = true;
    is_last = c->has_ended;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    if (is_last)
        destroy(c);
}

/* ---- what happens, in any thread; under the lock ---- */

/* True if the caller has nothing to wait for any more. It is not woken by each answer: half of the
 * window is sent at a time. */
static bool is_due(const struct nats_conn *c)
{
    bool is_well = c->state == NATS_CONN_CONNECTING || c->state == NATS_CONN_CONNECTED;

    if (!is_well || c->first_answer != NULL)
        return true;
    switch (c->awaited) {
    case ROOM:
        return c->flight.count <= c->flight.window / 2 && c->flight.bytes <= MOST_BYTES / 2;
    case LANE:
        return !nats_flight_has_lane(&c->flight, c->awaited_lane);
    case ALL:
        return c->flight.count == 0;
    default:
        return c->moves != c->seen;
    }
}

static void set_moved(struct nats_conn *c)
{
    c->moves++;
    if (is_due(c))
        pthread_cond_signal(&c->moved);
}

/* It does not work any more; the first reason counts. libnats begins its texts with
 * "(FILE:LINE): ", which is nothing for users. */
static void set_failed(struct nats_conn *c, enum nats_conn_state state, const char *why)
{
    const char *end = *why == '(' ? strstr(why, "): ") : NULL;

    why = end != NULL ? end + 3 : why;
    if (c->state != NATS_CONN_BROKEN && c->state != NATS_CONN_DENIED) {
        c->state = state;
        snprintf(c->failure, sizeof c->failure, "%s", why);
    }
    set_moved(c);
    pthread_cond_signal(&c->work);
}

/* ---- called by libnats, in threads of its own ---- */

/* True for an acknowledgement that says nothing but that the message is stored. */
static bool is_plain_yes(const char *data, int len)
{
    static const char head[] = "{\"stream\":\"";
    size_t n = len > 0 ? (size_t)len : 0;

    return n > sizeof head && memcmp(data, head, sizeof head - 1) == 0 &&
           memmem(data, n, "\"seq\":", 6) != NULL && memmem(data, n, "\"error\":", 8) == NULL &&
           memmem(data, n, "\"duplicate\":", 12) == NULL;
}

/* Keeps an answer for the caller. Takes the message. */
static void keep_answer(struct nats_conn *c, bool is_of_message, int64_t number, natsMsg *msg)
{
    struct nats_conn_answer *a = malloc(sizeof *a);

    if (a == NULL) {
        natsMsg_Destroy(msg);
        set_failed(c, NATS_CONN_BROKEN, "not enough memory");
        return;
    }
    *a = (struct nats_conn_answer){ NULL, is_of_message, number, msg };
    *c->end_answer = a;
    c->end_answer = &a->next;
}

/* Answers come on subjects INBOX.pSERIAL and INBOX.qNUMBER; what a consumer brings has the subject
 * of the message that is brought, and is of the newest question. */
static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *conn)
{
    struct nats_conn *c = conn;
    const char *subject = natsMsg_GetSubject(msg);
    size_t inbox_len = strlen((const char *)c->inbox);
    bool is_ours = strncmp(subject, (const char *)c->inbox, inbox_len) == 0;
    const char *word = is_ours && subject[inbox_len] == '.' ? subject + inbox_len + 1 : "q-1";
    uint64_t value = strtoull(word + 1, NULL, 10);
    int64_t number;

    (void)nc;
    (void)sub;
    pthread_mutex_lock(&c->lock);
    if (*word == 'q') {
        keep_answer(c, false, (int64_t)value, msg);
    } else if (is_plain_yes(natsMsg_GetData(msg), natsMsg_GetDataLength(msg))) {
        nats_flight_remove(&c->flight, value, &number);
        natsMsg_Destroy(msg);
    } else {
        keep_answer(c, true, (int64_t)value, msg);
    }
    set_moved(c);
    pthread_mutex_unlock(&c->lock);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *conn)
{
    struct nats_conn *c = conn;
    const char *text = NULL;
    bool is_denied = status == NATS_NOT_PERMITTED || status == NATS_CONNECTION_AUTH_FAILED;

    (void)sub;
    natsConnection_GetLastError(nc, &text);
    pthread_mutex_lock(&c->lock);
    set_failed(c, is_denied ? NATS_CONN_DENIED : NATS_CONN_BROKEN,
               text != NULL && *text != '\0' ? text : natsStatus_GetText(status));
    pthread_mutex_unlock(&c->lock);
}

static void on_closed(natsConnection *nc, void *conn)
{
    struct nats_conn *c = conn;
    const char *text = NULL;
    natsStatus status = natsConnection_GetLastError(nc, &text);

    pthread_mutex_lock(&c->lock);
    c->is_closed = true;
    set_failed(c, NATS_CONN_BROKEN, text != NULL && *text != '\0' ? text
               : status != NATS_OK ? natsStatus_GetText(status)
               : "the server has closed the connection");
    pthread_mutex_unlock(&c->lock);
}

static void on_complete(void *conn)
{
    struct nats_conn *c = conn;

    pthread_mutex_lock(&c->lock);
    c->is_complete = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

/* ---- the thread ---- */

/* Reconnecting is not libnats' affair: what it has sent and is unanswered must be looked for
 * first. */
static natsStatus set_options(natsOptions *opts, struct nats_conn *c)
{
    natsStatus s = nats_login_set(opts, &c->login);

    if (s == NATS_OK)
        s = natsOptions_SetAllowReconnect(opts, false);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(opts, on_error, c);
    if (s == NATS_OK)
        s = natsOptions_SetClosedCB(opts, on_closed, c);
    return s;
}

static natsStatus subscribe(struct nats_conn *c)
{
    char subject[128];
    natsStatus s;

    snprintf(subject, sizeof subject, "%s.>", (const char *)c->inbox);
    s = natsConnection_Subscribe(&c->sub, c->nc, subject, on_message, c);
    if (s == NATS_OK)
        s = natsSubscription_SetOnCompleteCB(c->sub, on_complete, c);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(c->sub, -1, -1);
    return s;
}

/* Whether a failure stays, however often it is tried: they do not let us in, we do not trust them
 * (libnats says where in the chain of certificates), or, if the options cannot be used, files of
 * ours cannot be read. */
static bool is_final(natsStatus s, bool are_options_set, const char *text)
{
    return s == NATS_CONNECTION_AUTH_FAILED || s == NATS_NOT_PERMITTED ||
           (s == NATS_SSL_ERROR && (!are_options_set || strstr(text, ":depth=") != NULL));
}

/* Once more, at once, where a signature could not be sent: what the server wants signed is another
 * text each time. */
static natsStatus connect_signed(struct nats_conn *c, natsOptions *opts)
{
    natsStatus s;
    int tries = 0;

    do {
        c->login.is_unsent = false;
        s = natsConnection_Connect(&c->nc, opts);
    } while (s != NATS_OK && c->login.is_unsent && ++tries < MOST_SIGNATURES);
    return s;
}

static void connect_now(struct nats_conn *c)
{
    natsOptions *opts = NULL;
    natsStatus s = natsOptions_Create(&opts);
    char failure[300];
    bool are_options_set;
    const char *more;

    if (s == NATS_OK)
        s = set_options(opts, c);
    are_options_set = s == NATS_OK;
    if (s == NATS_OK)
        s = natsInbox_Create(&c->inbox);
    if (s == NATS_OK)
        s = connect_signed(c, opts);
    if (s == NATS_OK)
        s = subscribe(c);
    natsOptions_Destroy(opts);
    more = s != NATS_OK ? nats_GetLastError(NULL) : NULL;
    if (more == NULL || *more == '\0')
        more = natsStatus_GetText(s);
    if (s == NATS_NO_SERVER && nats_login_is_lost(&c->login, failure, sizeof failure))
        more = failure;
    pthread_mutex_lock(&c->lock);
    if (s == NATS_OK && c->state == NATS_CONN_CONNECTING) {
        c->max_payload = natsConnection_GetMaxPayload(c->nc);
        natsConnection_GetConnectedUrl(c->nc, c->address, sizeof c->address);
        c->state = NATS_CONN_CONNECTED;
        set_moved(c);
    } else if (s != NATS_OK) {
        set_failed(c, is_final(s, are_options_set, more) ? NATS_CONN_DENIED : NATS_CONN_BROKEN,
                   more);
    }
    pthread_mutex_unlock(&c->lock);
}

static natsStatus publish_item(struct nats_conn *c, const struct nats_item *i)
{
    const char *headers = i->bytes + i->headers_at, *data = i->bytes + i->data_at;
    char reply[160];
    natsMsg *msg = NULL;
    natsStatus s;

    snprintf(reply, sizeof reply, "%s.%s", (const char *)c->inbox, i->reply);
    s = natsMsg_Create(&msg, i->bytes, reply, data, (int)i->len);
    for (const char *at = headers; s == NATS_OK && at < data;) {
        const char *value = at + strlen(at) + 1;

        s = natsMsgHeader_Set(msg, at, value);
        at = value + strlen(value) + 1;
    }
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(c->nc, msg);
    natsMsg_Destroy(msg);
    return s;
}

/* Takes the first message of the queue, or NULL. Under the lock. */
static struct nats_item *take_item(struct nats_conn *c)
{
    struct nats_item *i = c->first;

    if (i != NULL)
        c->first = i->next;
    if (c->first == NULL)
        c->end = &c->first;
    return i;
}

/* Publishes what is in the queue, until it is over with the connection. libnats keeps what is
 * published for a millisecond: too long where one message waits for another's answer, so when there
 * is no more it is told to send it. */
static void publish_all(struct nats_conn *c)
{
    bool is_sent = true;

    pthread_mutex_lock(&c->lock);
    while (!c->is_free && c->state == NATS_CONN_CONNECTED) {
        struct nats_item *i = take_item(c);
        natsStatus s;

        if (i == NULL && is_sent) {
            pthread_cond_wait(&c->work, &c->lock);
            continue;
        }
        pthread_mutex_unlock(&c->lock);
        is_sent = i == NULL;
        s = is_sent ? natsConnection_FlushTimeout(c->nc, c->login.timeout_ms) : publish_item(c, i);
        free(i);
        pthread_mutex_lock(&c->lock);
        if (s != NATS_OK && !(is_sent && s == NATS_TIMEOUT)) /* who waits knows for how long */
            set_failed(c, NATS_CONN_BROKEN, natsStatus_GetText(s));
    }
    pthread_mutex_unlock(&c->lock);
}

/* Ends the connection, and waits until libnats calls us no more. */
static void disconnect_now(struct nats_conn *c)
{
    bool has_sub = c->sub != NULL;

    natsSubscription_Destroy(c->sub);
    if (c->nc != NULL)
        natsConnection_Close(c->nc);
    pthread_mutex_lock(&c->lock);
    while ((c->nc != NULL && !c->is_closed) || (has_sub && !c->is_complete))
        pthread_cond_wait(&c->work, &c->lock);
    pthread_mutex_unlock(&c->lock);
    natsConnection_Destroy(c->nc);
    natsInbox_Destroy(c->inbox);
    nats_ReleaseThreadMemory();
}

static void *work(void *conn)
{
    struct nats_conn *c = conn;
    bool is_last;

    connect_now(c);
    publish_all(c);
    disconnect_now(c);
    pthread_mutex_lock(&c->lock);
    c->has_ended = true;
    is_last = c->is_free;
    pthread_mutex_unlock(&c->lock);
    if (is_last)
        destroy(c);
    return NULL;
}

/* ---- for the caller ---- */

enum nats_conn_state nats_conn_state(struct nats_conn *c, char failure[], size_t size)
{
    enum nats_conn_state state;

    pthread_mutex_lock(&c->lock);
    state = c->state;
    snprintf(failure, size, "%s", c->failure);
    pthread_mutex_unlock(&c->lock);
    return state;
}

bool nats_conn_wait(struct nats_conn *c, int ms, bool is_for_all)
{
    struct timespec until;
    bool has_moved;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&c->lock);
    c->awaited = is_for_all ? ALL : c->awaited;
    while (!is_due(c) && pthread_cond_timedwait(&c->moved, &c->lock, &until) == 0)
        ;
    has_moved = c->moves != c->seen;
    c->seen = c->moves;
    c->awaited = ANYTHING;
    pthread_mutex_unlock(&c->lock);
    return has_moved;
}

/* Under the lock. */
static void add_item(struct nats_conn *c, struct nats_item *i)
{
    if (c->first == NULL)
        pthread_cond_signal(&c->work);
    *c->end = i;
    c->end = &i->next;
}

enum nats_conn_result nats_conn_publish(struct nats_conn *c, int64_t number, uint64_t lane,
                                        const struct nats_item_message *m)
{
    enum nats_conn_result result = NATS_CONN_TAKEN;
    bool is_early = false;
    struct nats_item *i;

    pthread_mutex_lock(&c->lock);
    if (c->flight.count >= c->flight.window ||
        (c->flight.count > 0 && c->flight.bytes + m->len > MOST_BYTES))
        result = NATS_CONN_FULL;
    else if (nats_flight_has_lane(&c->flight, lane))
        result = NATS_CONN_LANE;
    else if ((i = nats_fence_item(&c->fence, m, c->flight.count == 0, &is_early)) == NULL)
        result = is_early ? NATS_CONN_FULL : NATS_CONN_NO_MEMORY;
    else if ((c->too_large = i->size > m->most ? i->size : 0) > 0) {
        result = NATS_CONN_TOO_LARGE;
        free(i);
    } else {
        snprintf(i->reply, sizeof i->reply, "p%llu",
                 (unsigned long long)nats_flight_add(&c->flight, number, lane, m->len));
        nats_fence_pass(&c->fence, i);
        add_item(c, i);
    }
    c->awaited = is_early ? ALL : result == NATS_CONN_FULL ? ROOM
               : result == NATS_CONN_LANE ? LANE : ANYTHING;
    c->awaited_lane = lane;
    pthread_mutex_unlock(&c->lock);
    return result;
}

void nats_conn_expect(struct nats_conn *c, uint64_t last, uint64_t origin, uint64_t own)
{
    nats_fence_set(&c->fence, last, origin, own);
}

size_t nats_conn_too_large(const struct nats_conn *c)
{
    return c->too_large;
}

enum nats_conn_result nats_conn_ask(struct nats_conn *c, int64_t number,
                                    const struct nats_item_message *m)
{
    static const struct nats_item_marks none = { .last = 0 };
    struct nats_item *i = nats_item_new(m, &none);

    if (i == NULL)
        return NATS_CONN_NO_MEMORY;
    snprintf(i->reply, sizeof i->reply, "q%lld", (long long)number);
    pthread_mutex_lock(&c->lock);
    add_item(c, i);
    pthread_mutex_unlock(&c->lock);
    return NATS_CONN_TAKEN;
}

unsigned nats_conn_in_flight(struct nats_conn *c)
{
    unsigned n;

    pthread_mutex_lock(&c->lock);
    n = c->flight.count;
    pthread_mutex_unlock(&c->lock);
    return n;
}

/* Takes the first answer that was kept. Under the lock. */
static struct nats_conn_answer *take_answer(struct nats_conn *c)
{
    struct nats_conn_answer *a = c->first_answer;

    if (a != NULL)
        c->first_answer = a->next;
    if (c->first_answer == NULL)
        c->end_answer = &c->first_answer;
    return a;
}

struct nats_conn_answer *nats_conn_answer(struct nats_conn *c)
{
    struct nats_conn_answer *a;

    pthread_mutex_lock(&c->lock);
    while ((a = take_answer(c)) != NULL && a->is_of_message &&
           !nats_flight_remove(&c->flight, (uint64_t)a->number, &a->number))
        nats_conn_answer_free(a); /* it was answered twice */
    pthread_mutex_unlock(&c->lock);
    return a;
}

int64_t nats_conn_max_payload(struct nats_conn *c)
{
    int64_t n;

    pthread_mutex_lock(&c->lock);
    n = c->max_payload;
    pthread_mutex_unlock(&c->lock);
    return n;
}

const char *nats_conn_address(struct nats_conn *c)
{
    return c->address; /* it is set before the state is, and stays */
}
