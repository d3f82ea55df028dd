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

    /* The task: the caller's while it is IDLE or DONE, else the thread's. */
    struct kafka_client_request request;
    char *topic, *group, *text; /* owned, what <request> refers to */
    rd_kafka_t *consumer; /* the thread's; NULL: no task needs one */
    struct kafka_client_answer answer;

    /* The caller's. */
    size_t sent, reported;
    size_t bytes; /* of messages without a report */
    size_t most_messages, most_bytes;
    rd_kafka_topic_t *topic_handle; /* of the topic of the newest message; NULL: there is none */
    struct kafka_client_failure *failures;
    size_t n_failures, cap_failures;
    bool lost_failure; /* there was no memory for one */
    struct kafka_client_problem trouble;
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

/* ---- problems ---- */

static void set_problem(struct kafka_client_problem *p, rd_kafka_resp_err_t code, const char *text)
{
    *p = (struct kafka_client_problem){ .code = code };
    snprintf(p->text, sizeof p->text, "%s", text != NULL && *text != '\0' ? text
                                                                        : rd_kafka_err2str(code));
}

static void fail(struct kafka_client_answer *a, rd_kafka_resp_err_t code, const char *text)
{
    a->is_ok = false;
    set_problem(&a->problem, code, text);
}

/* Frees the error. */
static void set_answer(struct kafka_client_answer *a, rd_kafka_error_t *error)
{
    a->is_ok = error == NULL;
    if (error == NULL)
        return;
    set_problem(&a->problem, rd_kafka_error_code(error), rd_kafka_error_string(error));
    a->problem.is_fatal = rd_kafka_error_is_fatal(error);
    a->problem.is_retriable = rd_kafka_error_is_retriable(error);
    rd_kafka_error_destroy(error);
}

/* ---- tasks, in the client's thread ---- */

static void set_text(struct kafka_client_answer *a, const void *text, size_t len)
{
    a->text = malloc(len + 1);
    if (a->text == NULL) {
        fail(a, RD_KAFKA_RESP_ERR__FAIL, "not enough memory");
        return;
    }
    memcpy(a->text, text, len);
    a->text[len] = '\0';
    a->len = len;
}

static void do_connect(struct kafka_client *c)
{
    struct kafka_client_answer *a = &c->answer;
    const struct rd_kafka_metadata *found;
    rd_kafka_resp_err_t code = rd_kafka_metadata(c->rk, 1, NULL, &found, c->request.ms);
    char *id;

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail(a, code, NULL);
        return;
    }
    for (int i = 0; c->topic != NULL && i < found->topic_cnt; i++)
        if (strcmp(found->topics[i].topic, c->topic) == 0)
            a->is_there = true;
    a->number = found->broker_cnt;
    rd_kafka_metadata_destroy(found);
    a->is_ok = true;
    id = rd_kafka_clusterid(c->rk, c->request.ms);
    if (id != NULL) {
        set_text(a, id, strlen(id));
        rd_kafka_mem_free(c->rk, id);
    }
}

/* Waits for the answer to an administrator's request. Returns owned, or NULL and what is wrong. */
static rd_kafka_event_t *await_event(struct kafka_client *c, rd_kafka_queue_t *queue)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, c->request.ms);

    if (event == NULL) {
        fail(&c->answer, RD_KAFKA_RESP_ERR__TIMED_OUT, NULL);
    } else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail(&c->answer, rd_kafka_event_error(event), rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
        return NULL;
    }
    return event;
}

static void do_create(struct kafka_client *c)
{
    struct kafka_client_answer *a = &c->answer;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(c->rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(c->topic, 1, -1, a->problem.text,
                                                       sizeof a->problem.text);
    rd_kafka_event_t *event = NULL;

    if (topic == NULL) {
        fail(a, RD_KAFKA_RESP_ERR__INVALID_ARG, "it cannot be the name of a topic");
    } else {
        if (c->request.is_compact)
            rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "compact");
        rd_kafka_CreateTopics(c->rk, &topic, 1, NULL, queue);
        event = await_event(c, queue);
    }
    if (event != NULL) {
        size_t n;
        const rd_kafka_topic_result_t **results =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
        rd_kafka_resp_err_t code = n == 1 ? rd_kafka_topic_result_error(results[0])
                                          : RD_KAFKA_RESP_ERR__BAD_MSG;

        if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
            a->is_ok = true;
        else
            fail(a, code, n == 1 ? rd_kafka_topic_result_error_string(results[0]) : NULL);
        rd_kafka_event_destroy(event);
    }
    if (topic != NULL)
        rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
}

static rd_kafka_topic_partition_list_t *positions_of(const struct kafka_client *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, c->topic, 0);
    return list;
}

static void destroy_consumer(struct kafka_client *c)
{
    if (c->consumer != NULL)
        rd_kafka_destroy_flags(c->consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    c->consumer = NULL;
}

/* A consumer that never joins its group. (To ask a producer crashes librdkafka when the broker
 * says that it is not the coordinator.) */
static bool make_consumer(struct kafka_client *c)
{
    char why[512];
    rd_kafka_conf_t *conf;

    if (c->consumer != NULL)
        return true;
    conf = rd_kafka_conf_dup(c->conf);
    if (rd_kafka_conf_set(conf, "group.id", c->group, why, sizeof why) == RD_KAFKA_CONF_OK)
        c->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (c->consumer == NULL) {
        rd_kafka_conf_destroy(conf);
        fail(&c->answer, RD_KAFKA_RESP_ERR__FAIL, why);
    }
    return c->consumer != NULL;
}

static void do_recall(struct kafka_client *c)
{
    struct kafka_client_answer *a = &c->answer;
    rd_kafka_topic_partition_list_t *list;
    const rd_kafka_topic_partition_t *found;
    rd_kafka_resp_err_t code;

    if (!make_consumer(c))
        return;
    list = positions_of(c);
    found = list->elems;
    code = rd_kafka_committed(c->consumer, list, c->request.ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = found->err;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) {
        fail(a, code, NULL);
    } else {
        a->is_ok = true;
        a->number = found->offset;
        if (found->offset >= 0)
            set_text(a, found->metadata_size > 0 ? found->metadata : "", found->metadata_size);
    }
    rd_kafka_topic_partition_list_destroy(list);
    if (a->is_ok || code != RD_KAFKA_RESP_ERR__TIMED_OUT)
        destroy_consumer(c);
}

static void do_offsets(struct kafka_client *c)
{
    rd_kafka_topic_partition_list_t *list = positions_of(c);
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new(c->group);

    list->elems[0].offset = c->request.number;
    list->elems[0].metadata = c->text; /* the list frees it */
    list->elems[0].metadata_size = c->request.len;
    c->text = NULL;
    set_answer(&c->answer, rd_kafka_send_offsets_to_transaction(c->rk, list, group,
                                                                c->request.ms));
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(list);
}

static rd_kafka_error_t *flush(rd_kafka_t *rk, int ms)
{
    rd_kafka_resp_err_t code = rd_kafka_flush(rk, ms);

    return code != RD_KAFKA_RESP_ERR_NO_ERROR ? rd_kafka_error_new(code, NULL) : NULL;
}

static void run(struct kafka_client *c)
{
    struct kafka_client_answer *a = &c->answer;
    int ms = c->request.ms;

    switch (c->request.task) {
    case KAFKA_CLIENT_CONNECT: do_connect(c); return;
    case KAFKA_CLIENT_CREATE: do_create(c); return;
    case KAFKA_CLIENT_RECALL: do_recall(c); return;
    case KAFKA_CLIENT_OFFSETS: do_offsets(c); return;
    case KAFKA_CLIENT_INIT: set_answer(a, rd_kafka_init_transactions(c->rk, ms)); return;
    case KAFKA_CLIENT_BEGIN: set_answer(a, rd_kafka_begin_transaction(c->rk)); return;
    case KAFKA_CLIENT_COMMIT: set_answer(a, rd_kafka_commit_transaction(c->rk, ms)); return;
    case KAFKA_CLIENT_ABORT: set_answer(a, rd_kafka_abort_transaction(c->rk, ms)); return;
    case KAFKA_CLIENT_FLUSH: set_answer(a, flush(c->rk, ms)); return;
    case KAFKA_CLIENT_TASKS: break;
    }
}

/* ---- the thread ---- */

static void forget_task(struct kafka_client *c)
{
    free(c->topic);
    free(c->group);
    free(c->text);
    free(c->answer.text);
    c->topic = c->group = c->text = NULL;
    c->answer = (struct kafka_client_answer){ 0 };
}

static void free_client(struct kafka_client *c)
{
    destroy_consumer(c);
    rd_kafka_conf_destroy(c->conf);
    rd_kafka_queue_destroy(c->queue);
    if (c->topic_handle != NULL)
        rd_kafka_topic_destroy(c->topic_handle);
    rd_kafka_purge(c->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                   RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_destroy(c->rk);
    forget_task(c);
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
        run(c);
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

/* Copies a text unless it is NULL. False: no memory. */
static bool copy_text(char **to, const char *from, size_t len)
{
    *to = NULL;
    if (from == NULL)
        return true;
    *to = malloc(len + 1);
    if (*to == NULL)
        return false;
    memcpy(*to, from, len);
    (*to)[len] = '\0';
    return true;
}

bool kafka_client_start(struct kafka_client *c, const struct kafka_client_request *r)
{
    bool ok;

    forget_task(c);
    c->request = *r;
    ok = copy_text(&c->topic, r->topic, r->topic != NULL ? strlen(r->topic) : 0) &&
         copy_text(&c->group, r->group, r->group != NULL ? strlen(r->group) : 0) &&
         copy_text(&c->text, r->text, r->len);
    if (!ok)
        return false;
    pthread_mutex_lock(&c->mutex);
    c->state = WANTED;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    return true;
}

const struct kafka_client_answer *kafka_client_result(struct kafka_client *c)
{
    bool is_done;

    pthread_mutex_lock(&c->mutex);
    is_done = c->state == DONE;
    pthread_mutex_unlock(&c->mutex);
    return is_done ? &c->answer : NULL;
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

    set_problem(&c->trouble, code, rd_kafka_event_error_string(event));
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        code = rd_kafka_fatal_error(c->rk, why, sizeof why);
        set_problem(&c->trouble, code, why);
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

const struct kafka_client_problem *kafka_client_trouble(struct kafka_client *c)
{
    bool has_trouble = c->has_trouble;

    c->has_trouble = false;
    return has_trouble ? &c->trouble : NULL;
}
