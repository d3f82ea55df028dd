/* kafka_client.c -- one producer of librdkafka, with a thread for its calls that block.
 * SPDX-License-Identifier: MIT
 *
 *    the caller's thread     messages, queue (reports, errors)
 *    the client's thread     waits for a task, does it, wakes the caller through the queue; when
 *                            the caller has closed the client, frees all of it
 *
 * So to end a producer, or a call that hangs, holds nobody up. */
#include "sinks/kafka_client.h"

#include "base/array.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum state { IDLE, WANTED, RUNNING, DONE };

struct kafka_client {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue; /* the main one */
    rd_kafka_conf_t *conf;   /* what <rk> was made of */

    pthread_mutex_t mutex; /* for <state> and <is_closed> */
    pthread_cond_t changed;
    enum state state;
    bool is_closed;

    struct kafka_task task; /* the caller's while it is IDLE or DONE, else the thread's */

    /* The caller's. */
    size_t sent, reported;
    size_t bytes; /* of messages without a report */
    size_t most_messages, most_bytes;
    rd_kafka_topic_t *topic_handle; /* of the topic of the newest message; NULL: there is none */
    struct kafka_client_failure *failures;
    size_t n_failures, cap_failures;
    bool lost_failure; /* there was no memory for one */
    struct kafka_task_problem trouble;
    bool has_trouble;
};

/* How many threads are there: at its end the program waits a little for them, since they use what
 * is cleaned up then. */
static pthread_mutex_t living_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t living_changed = PTHREAD_COND_INITIALIZER;
static int living;

static void await_the_living(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 500000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&living_mutex);
    while (living > 0)
        if (pthread_cond_timedwait(&living_changed, &living_mutex, &until) != 0)
            break;
    pthread_mutex_unlock(&living_mutex);
}

static void count_living(int by)
{
    static bool is_registered;

    pthread_mutex_lock(&living_mutex);
    living += by;
    if (!is_registered)
        is_registered = atexit(await_the_living) == 0;
    pthread_cond_broadcast(&living_changed);
    pthread_mutex_unlock(&living_mutex);
}

/* ---- the thread ---- */

static void free_client(struct kafka_client *c)
{
    kafka_task_fini(&c->task);
    rd_kafka_conf_destroy(c->conf);
    rd_kafka_queue_destroy(c->queue);
    if (c->topic_handle != NULL)
        rd_kafka_topic_destroy(c->topic_handle);
    rd_kafka_purge(c->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                   RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_destroy(c->rk);
    free(c->failures);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

static void *work(void *arg)
{
    struct kafka_client *c = arg;

    pthread_mutex_lock(&c->mutex);
    while (!c->is_closed) {
        if (c->state != WANTED) {
            pthread_cond_wait(&c->changed, &c->mutex);
            continue;
        }
        c->state = RUNNING;
        pthread_mutex_unlock(&c->mutex);
        kafka_task_run(&c->task);
        pthread_mutex_lock(&c->mutex);
        c->state = DONE;
        rd_kafka_queue_yield(c->queue); /* ends the caller's step */
    }
    pthread_mutex_unlock(&c->mutex);
    free_client(c);
    count_living(-1);
    return NULL;
}

/* Starts the thread, which gets no signals. */
static bool start_thread(struct kafka_client *c)
{
    sigset_t all, before;
    pthread_t thread;
    int status;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    count_living(1);
    status = pthread_create(&thread, NULL, work, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != 0) {
        count_living(-1);
        return false;
    }
    pthread_detach(thread);
    return true;
}

/* ---- the caller's side ---- */

/* Returns owned, or NULL and why. */
static rd_kafka_conf_t *make_conf(const char *const *pairs, size_t n, char *why, size_t size)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    for (size_t i = 0; i < n; i++)
        if (rd_kafka_conf_set(conf, pairs[2 * i], pairs[2 * i + 1], why, size) !=
            RD_KAFKA_CONF_OK) {
            rd_kafka_conf_destroy(conf);
            return NULL;
        }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
    return conf;
}

bool kafka_client_check(const char *const *pairs, size_t n, char *why, size_t size)
{
    rd_kafka_conf_t *conf = make_conf(pairs, n, why, size);

    if (conf == NULL)
        return false;
    rd_kafka_conf_destroy(conf);
    return true;
}

struct kafka_client *kafka_client_open(const char *const *pairs, size_t n, char *why, size_t size)
{
    rd_kafka_conf_t *conf = make_conf(pairs, n, why, size);
    struct kafka_client *c = conf != NULL ? calloc(1, sizeof *c) : NULL;

    if (conf == NULL)
        return NULL;
    if (c == NULL) {
        rd_kafka_conf_destroy(conf);
        snprintf(why, size, "not enough memory");
        return NULL;
    }
    c->conf = rd_kafka_conf_dup(conf);
    c->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, size);
    if (c->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        rd_kafka_conf_destroy(c->conf);
        free(c);
        return NULL;
    }
    rd_kafka_set_log_queue(c->rk, NULL); /* the main one */
    c->queue = rd_kafka_queue_get_main(c->rk);
    c->task.rk = c->rk;
    c->task.conf = c->conf;
    kafka_client_limit(c, SIZE_MAX, SIZE_MAX);
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    if (!start_thread(c)) {
        free_client(c);
        snprintf(why, size, "cannot start a thread");
        return NULL;
    }
    return c;
}

void kafka_client_close(struct kafka_client *c)
{
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->mutex);
    c->is_closed = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

bool kafka_client_start(struct kafka_client *c, const struct kafka_task_request *r)
{
    if (!kafka_task_set(&c->task, r))
        return false;
    pthread_mutex_lock(&c->mutex);
    c->state = WANTED;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    return true;
}

const struct kafka_task_answer *kafka_client_result(struct kafka_client *c)
{
    bool is_done;

    pthread_mutex_lock(&c->mutex);
    is_done = c->state == DONE;
    pthread_mutex_unlock(&c->mutex);
    return is_done ? &c->task.answer : NULL;
}

void kafka_client_begin(struct kafka_client *c)
{
    c->sent = c->reported = c->n_failures = c->bytes = 0;
    c->lost_failure = false;
}

void kafka_client_limit(struct kafka_client *c, size_t messages, size_t bytes)
{
    c->most_messages = messages;
    c->most_bytes = bytes;
}

/* Makes <topic_handle> that of a topic. False if there is none of that name. */
static bool find_topic(struct kafka_client *c, const char *name)
{
    if (c->topic_handle != NULL && strcmp(rd_kafka_topic_name(c->topic_handle), name) == 0)
        return true;
    if (c->topic_handle != NULL)
        rd_kafka_topic_destroy(c->topic_handle);
    c->topic_handle = rd_kafka_topic_new(c->rk, name, NULL);
    return c->topic_handle != NULL;
}

rd_kafka_error_t *kafka_client_produce(struct kafka_client *c,
                                       const struct kafka_client_message *m)
{
    rd_kafka_vu_t parts[] = {
        { .vtype = RD_KAFKA_VTYPE_RKT },
        { .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
        { .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)m->index },
        { .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { (void *)m->key, m->key_len } },
        { .vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = { (void *)m->value, m->value_len } },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = m->headers },
    };
    rd_kafka_error_t *error;

    if (c->sent - c->reported >= c->most_messages || c->bytes >= c->most_bytes)
        return rd_kafka_error_new(RD_KAFKA_RESP_ERR__QUEUE_FULL, "too much is on its way");
    if (!find_topic(c, m->topic))
        return rd_kafka_error_new(rd_kafka_last_error(), "there is no such topic");
    parts[0].u.rkt = c->topic_handle;
    error = rd_kafka_produceva(c->rk, parts, m->headers != NULL ? 6 : 5);
    if (error == NULL) {
        c->sent++;
        c->bytes += m->value_len + m->key_len;
    }
    return error;
}

static void take_reports(struct kafka_client *c, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *m;

    while ((m = rd_kafka_event_message_next(event)) != NULL) {
        c->reported++;
        c->bytes -= m->len + m->key_len;
        if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        if (!ARRAY_PUSH(c->failures, c->n_failures, c->cap_failures,
                        (struct kafka_client_failure){ (size_t)m->_private, m->err }))
            c->lost_failure = true;
    }
}

static void take_error(struct kafka_client *c, rd_kafka_event_t *event)
{
    char why[512];
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);

    kafka_task_set_problem(&c->trouble, code, rd_kafka_event_error_string(event));
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        code = rd_kafka_fatal_error(c->rk, why, sizeof why);
        kafka_task_set_problem(&c->trouble, code, why);
        c->trouble.is_fatal = true;
    }
    c->has_trouble = true;
}

bool kafka_client_step(struct kafka_client *c, int ms)
{
    bool has_moved = false;
    rd_kafka_event_t *event;

    while ((event = rd_kafka_queue_poll(c->queue, has_moved ? 0 : ms)) != NULL) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            take_reports(c, event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
            take_error(c, event);
        has_moved = has_moved || rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR;
        rd_kafka_event_destroy(event);
        if (c->has_trouble)
            break;
    }
    return has_moved;
}

size_t kafka_client_outstanding(const struct kafka_client *c)
{
    return c->sent - c->reported;
}

const struct kafka_client_failure *kafka_client_failures(const struct kafka_client *c, size_t *n)
{
    static const struct kafka_client_failure lost = { 0, RD_KAFKA_RESP_ERR__FAIL };

    *n = c->lost_failure ? 1 : c->n_failures;
    return c->lost_failure ? &lost : c->failures;
}

const struct kafka_task_problem *kafka_client_trouble(struct kafka_client *c)
{
    bool has_trouble = c->has_trouble;

    c->has_trouble = false;
    return has_trouble ? &c->trouble : NULL;
}
