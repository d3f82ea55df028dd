/* kafka_task.c -- a call of librdkafka that blocks: what is asked for, and what comes of it.
 * SPDX-License-Identifier: MIT */
#include "sinks/kafka_task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- problems ---- */

void kafka_task_set_problem(struct kafka_task_problem *p, rd_kafka_resp_err_t code,
                            const char *text)
{
    *p = (struct kafka_task_problem){ .code = code };
    snprintf(p->text, sizeof p->text, "%s", text != NULL && *text != '\0' ? text
                                                                        : rd_kafka_err2str(code));
}

static void fail(struct kafka_task_answer *a, rd_kafka_resp_err_t code, const char *text)
{
    a->is_ok = false;
    kafka_task_set_problem(&a->problem, code, text);
}

/* Frees the error. */
static void set_answer(struct kafka_task_answer *a, rd_kafka_error_t *error)
{
    a->is_ok = error == NULL;
    if (error == NULL)
        return;
    kafka_task_set_problem(&a->problem, rd_kafka_error_code(error), rd_kafka_error_string(error));
    a->problem.is_fatal = rd_kafka_error_is_fatal(error);
    a->problem.is_retriable = rd_kafka_error_is_retriable(error);
    rd_kafka_error_destroy(error);
}

/* ---- tasks ---- */

static void set_text(struct kafka_task_answer *a, const void *text, size_t len)
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

static void do_connect(struct kafka_task *t)
{
    struct kafka_task_answer *a = &t->answer;
    const struct rd_kafka_metadata *found;
    rd_kafka_resp_err_t code = rd_kafka_metadata(t->rk, 1, NULL, &found, t->request.ms);
    char *id;

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail(a, code, NULL);
        return;
    }
    for (int i = 0; t->topic != NULL && i < found->topic_cnt; i++)
        if (strcmp(found->topics[i].topic, t->topic) == 0)
            a->is_there = true;
    a->number = found->broker_cnt;
    rd_kafka_metadata_destroy(found);
    a->is_ok = true;
    id = rd_kafka_clusterid(t->rk, t->request.ms);
    if (id != NULL) {
        set_text(a, id, strlen(id));
        rd_kafka_mem_free(t->rk, id);
    }
}

/* Waits for the answer to an administrator's request. Returns owned, or NULL and what is wrong. */
static rd_kafka_event_t *await_event(struct kafka_task *t, rd_kafka_queue_t *queue)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, t->request.ms);

    if (event == NULL) {
        fail(&t->answer, RD_KAFKA_RESP_ERR__TIMED_OUT, NULL);
    } else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail(&t->answer, rd_kafka_event_error(event), rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
        return NULL;
    }
    return event;
}

static void do_create(struct kafka_task *t)
{
    struct kafka_task_answer *a = &t->answer;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(t->rk);
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(t->topic, 1, -1, a->problem.text,
                                                       sizeof a->problem.text);
    rd_kafka_event_t *event = NULL;

    if (topic == NULL) {
        fail(a, RD_KAFKA_RESP_ERR__INVALID_ARG, "it cannot be the name of a topic");
    } else {
        if (t->request.is_compact)
            rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "compact");
        rd_kafka_CreateTopics(t->rk, &topic, 1, NULL, queue);
        event = await_event(t, queue);
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

static rd_kafka_topic_partition_list_t *positions_of(const struct kafka_task *t)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, t->topic, 0);
    return list;
}

static void destroy_consumer(struct kafka_task *t)
{
    if (t->consumer != NULL)
        rd_kafka_destroy_flags(t->consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    t->consumer = NULL;
}

/* A consumer that never joins its group. (To ask a producer crashes librdkafka when the broker
 * says that it is not the coordinator.) */
static bool make_consumer(struct kafka_task *t)
{
    char why[512];
    rd_kafka_conf_t *conf;

    if (t->consumer != NULL && t->is_consumer_quick == t->request.is_quick)
        return true;
    destroy_consumer(t);
    t->is_consumer_quick = t->request.is_quick;
    conf = rd_kafka_conf_dup(t->conf);
    if (rd_kafka_conf_set(conf, "group.id", t->group, why, sizeof why) == RD_KAFKA_CONF_OK &&
        rd_kafka_conf_set(conf, "isolation.level", t->request.is_quick ? "read_uncommitted"
                          : "read_committed", why, sizeof why) == RD_KAFKA_CONF_OK)
        t->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (t->consumer == NULL) {
        rd_kafka_conf_destroy(conf);
        fail(&t->answer, RD_KAFKA_RESP_ERR__FAIL, why);
    }
    if (t->consumer != NULL)
        rd_kafka_poll_set_consumer(t->consumer);
    return t->consumer != NULL;
}

/* What the consumer was told while it had no answer, such as that it must not know the group; else
 * <code>. */
static rd_kafka_resp_err_t find_reason(struct kafka_task *t, rd_kafka_resp_err_t code)
{
    rd_kafka_message_t *m;

    while ((m = rd_kafka_consumer_poll(t->consumer, 0)) != NULL) {
        if (m->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
            code = m->err;
        rd_kafka_message_destroy(m);
    }
    return code;
}

static void do_recall(struct kafka_task *t)
{
    struct kafka_task_answer *a = &t->answer;
    rd_kafka_topic_partition_list_t *list;
    const rd_kafka_topic_partition_t *found;
    rd_kafka_resp_err_t code;

    if (!make_consumer(t))
        return;
    list = positions_of(t);
    found = list->elems;
    code = rd_kafka_committed(t->consumer, list, t->request.ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = found->err;
    if (code == RD_KAFKA_RESP_ERR__TIMED_OUT)
        code = find_reason(t, code);
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
        destroy_consumer(t);
}

static void do_offsets(struct kafka_task *t)
{
    rd_kafka_topic_partition_list_t *list = positions_of(t);
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new(t->group);

    list->elems[0].offset = t->request.number;
    list->elems[0].metadata = t->text; /* the list frees it */
    list->elems[0].metadata_size = t->request.len;
    t->text = NULL;
    set_answer(&t->answer, rd_kafka_send_offsets_to_transaction(t->rk, list, group,
                                                                t->request.ms));
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(list);
}

static rd_kafka_error_t *flush(rd_kafka_t *rk, int ms)
{
    rd_kafka_resp_err_t code = rd_kafka_flush(rk, ms);

    return code != RD_KAFKA_RESP_ERR_NO_ERROR ? rd_kafka_error_new(code, NULL) : NULL;
}

void kafka_task_run(struct kafka_task *t)
{
    struct kafka_task_answer *a = &t->answer;
    int ms = t->request.ms;

    switch (t->request.kind) {
    case KAFKA_TASK_CONNECT: do_connect(t); return;
    case KAFKA_TASK_CREATE: do_create(t); return;
    case KAFKA_TASK_RECALL: do_recall(t); return;
    case KAFKA_TASK_OFFSETS: do_offsets(t); return;
    case KAFKA_TASK_INIT: set_answer(a, rd_kafka_init_transactions(t->rk, ms)); return;
    case KAFKA_TASK_BEGIN: set_answer(a, rd_kafka_begin_transaction(t->rk)); return;
    case KAFKA_TASK_COMMIT: set_answer(a, rd_kafka_commit_transaction(t->rk, ms)); return;
    case KAFKA_TASK_ABORT: set_answer(a, rd_kafka_abort_transaction(t->rk, ms)); return;
    case KAFKA_TASK_FLUSH: set_answer(a, flush(t->rk, ms)); return;
    case KAFKA_TASK_COUNT: break;
    }
}

/* ---- requests ---- */

static void forget(struct kafka_task *t)
{
    free(t->topic);
    free(t->group);
    free(t->text);
    free(t->answer.text);
    t->topic = t->group = t->text = NULL;
    t->answer = (struct kafka_task_answer){ 0 };
}

void kafka_task_fini(struct kafka_task *t)
{
    destroy_consumer(t);
    forget(t);
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

bool kafka_task_set(struct kafka_task *t, const struct kafka_task_request *r)
{
    forget(t);
    t->request = *r;
    return copy_text(&t->topic, r->topic, r->topic != NULL ? strlen(r->topic) : 0) &&
           copy_text(&t->group, r->group, r->group != NULL ? strlen(r->group) : 0) &&
           copy_text(&t->text, r->text, r->len);
}
