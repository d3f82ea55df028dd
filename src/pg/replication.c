/* replication.c -- a connection that gets the server's log, decoded.
 * SPDX-License-Identifier: MIT */
#include "pg/replication.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "pg/lsn.h"
#include "pg/session.h"
#include "pg/sqlstate.h"
#include "pg/wire.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EPOCH_S 946684800 /* from 1970 to 2000 */

struct replication {
    struct conn *conn;
    char *message;       /* the last one, of libpq; or NULL */
    int64_t heard_ms;    /* when something came last */
    int64_t asked_ms;    /* when the server was asked to answer since then; 0: it was not */
    uint64_t confirmed;  /* what was confirmed last */
};

struct conn *replication_conn(struct replication *r)
{
    return r->conn;
}

static bool set_up(struct replication *r, struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    session_put(&sql, SESSION_STREAM, conn_version(r->conn));
    ok = buf_ok(&sql) ? conn_run(r->conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

static const struct result_shape place_shape = { "which server it is", "t", 1, 1 };

static struct result *ask_place(struct conn *conn, struct err *e)
{
    struct result *rows = NULL;

    if (conn_run(conn, "SELECT pg_catalog.pg_postmaster_start_time()::text || ' '"
                       " || pg_catalog.current_database()", &place_shape, &rows, 1, e))
        return rows;
    result_free(rows);
    return NULL;
}

/* Another server would have another log. */
static bool check_place(struct replication *r, struct conn *conn, struct err *e)
{
    struct result *here = ask_place(r->conn, e);
    struct result *there = here != NULL ? ask_place(conn, e) : NULL;
    bool ok = there != NULL &&
              (strcmp(result_text(here, 0, 0), result_text(there, 0, 0)) == 0 ||
               err_set(e, ERR_REFUSED, "slot_connect leads to another server, or another database, "
                       "than connect: both must be the same"));

    result_free(here);
    result_free(there);
    return ok;
}

struct replication *replication_open(struct conn *conn, const char *conninfo,
                                     struct connect_orphan *left, struct err *e)
{
    struct replication *r = calloc(1, sizeof *r);

    if (r == NULL) {
        err_memory(e);
        return NULL;
    }
    r->conn = conn_open_replication(conn, conninfo, left, e);
    if (r->conn != NULL && (conninfo == NULL || check_place(r, conn, e)) && set_up(r, e))
        return r;
    replication_close(r, NULL);
    return NULL;
}

void replication_close(struct replication *r, struct connect_orphan *left)
{
    if (r == NULL)
        return;
    PQfreemem(r->message);
    if (r->conn != NULL) {
        conn_wire(r->conn)->is_lost = true; /* its backend ends by itself */
        conn_close(r->conn, left);
    }
    free(r);
}

/* ---- slots ---- */

static const struct result_shape created_shape = { "the new slot", "tttt", 1, 1 };

/* What a slot is made with, as the version wants it. */
static const char *options_of(const struct replication *r, enum replication_slot_kind kind)
{
    if (conn_version(r->conn) < 150000)
        return "EXPORT_SNAPSHOT";
    return kind == REPLICATION_FAILOVER ? "(SNAPSHOT 'export', FAILOVER true)"
                                        : "(SNAPSHOT 'export')";
}

static bool check_failover(const struct replication *r, struct err *e)
{
    return conn_version(r->conn) >= 170000 ||
           err_set(e, ERR_REFUSED, "failover = true needs Postgres 17: before, no slot is on "
                   "standbys");
}

bool replication_set_failover(struct replication *r, const char *name, struct err *e)
{
    struct buf sql;
    bool ok;

    if (!check_failover(r, e))
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "ALTER_REPLICATION_SLOT \"%s\" (FAILOVER true)", name);
    ok = buf_ok(&sql) ? conn_run(r->conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

bool replication_create_slot(struct replication *r, const char *name,
                             enum replication_slot_kind kind, struct replication_slot *slot,
                             struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    const char *snapshot;
    bool ok;

    if (kind == REPLICATION_FAILOVER && !check_failover(r, e))
        return false;
    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "CREATE_REPLICATION_SLOT \"%s\"%s LOGICAL pgoutput %s", name,
               kind == REPLICATION_TEMPORARY ? " TEMPORARY" : "", options_of(r, kind));
    ok = buf_ok(&sql) ? conn_run(r->conn, sql.data, &created_shape, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    if (ok) {
        snapshot = result_text(rows, 0, 2);
        ok = lsn_read(result_text(rows, 0, 1), &slot->lsn) &&
             strlen(snapshot) < sizeof slot->snapshot && strpbrk(snapshot, "'\\") == NULL;
        if (ok)
            memcpy(slot->snapshot, snapshot, strlen(snapshot) + 1);
        else
            err_set(e, ERR_ANSWER, "what the server says of a new slot cannot be read");
    }
    result_free(rows);
    return ok;
}

bool replication_drop_slot(struct replication *r, const char *name, struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "DROP_REPLICATION_SLOT \"%s\"", name);
    ok = buf_ok(&sql) ? conn_run(r->conn, sql.data, NULL, NULL, 0, e) : err_memory(e);
    buf_fini(&sql);
    return ok;
}

static const struct result_shape copied_shape = { "the copy of a slot", "t", 1, 1 };

/* (Names of slots have small letters, digits and _ only.) */
bool replication_copy_slot(struct replication *r, const char *slot, const char *name,
                           struct err *e)
{
    struct result *rows = NULL;
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "SELECT slot_name FROM pg_catalog.pg_copy_logical_replication_slot('%s', '%s',"
               " true)", slot, name);
    ok = buf_ok(&sql) ? conn_run(r->conn, sql.data, &copied_shape, &rows, 1, e) : err_memory(e);
    buf_fini(&sql);
    result_free(rows);
    return ok;
}

static const struct result_shape history_shape = { "the history of a timeline", "tt", 1, 1 };

/* Lines of "1 \t 0/3000158 \t why", of all timelines that came before. */
static void read_switch(const char *text, uint32_t then, uint64_t *lsn)
{
    for (; text != NULL && *text != '\0'; text = strchr(text, '\n'), text += text != NULL) {
        char word[LSN_TEXT + 1];
        unsigned timeline;

        if (sscanf(text, "%u %17[0-9A-Fa-f/]", &timeline, word) == 2 && timeline == then) {
            if (!lsn_read(word, lsn))
                *lsn = 0;
            return;
        }
    }
}

bool replication_ask_switch(struct replication *r, uint32_t now, uint32_t then, uint64_t *lsn,
                            struct err *e)
{
    struct result *rows = NULL;
    char sql[64];
    bool ok;

    *lsn = 0;
    snprintf(sql, sizeof sql, "TIMELINE_HISTORY %" PRIu32, now);
    ok = conn_run(r->conn, sql, &history_shape, &rows, 1, e);
    if (ok)
        read_switch(result_text(rows, 0, 1), then, lsn);
    result_free(rows);
    return ok;
}

/* ---- the stream ---- */

bool replication_start(struct replication *r, const struct replication_request *request,
                       struct err *e)
{
    char text[LSN_TEXT];
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_printf(&sql, "START_REPLICATION SLOT \"%s\" LOGICAL %s (proto_version '1', "
               "publication_names '", request->slot, lsn_write(request->lsn, text));
    for (const char *p = request->publications; *p != '\0'; p++)
        buf_puts(&sql, *p == '\'' ? "''" : (char[]){ *p, '\0' });
    buf_puts(&sql, request->with_messages ? "', messages 'true')" : "')");
    ok = buf_ok(&sql) ? conn_copy_both(r->conn, sql.data, e) : err_memory(e);
    buf_fini(&sql);
    r->heard_ms = clock_mono_ms();
    r->asked_ms = 0;
    r->confirmed = 0;
    return ok;
}

static void fail_decoding(struct wire *w, const PGresult *res, struct err *e)
{
    connect_fail_result(w->pg, res, e);
    if (e->code == ERR_SQL && !sqlstate_passes_in_log(e->sqlstate))
        e->code = ERR_DECODING;
}

/* The server has ended the stream: it says why, or it is being stopped. */
static bool fail_ended(struct replication *r, struct err *e)
{
    struct wire *w = conn_wire(r->conn);
    bool waiting = true;
    PGresult *res = wire_next(w, &waiting, e);

    w->is_lost = true;
    if (res != NULL && PQresultStatus(res) == PGRES_FATAL_ERROR)
        fail_decoding(w, res, e);
    else if (waiting)
        err_set(e, ERR_CONNECTION, "the server has ended the stream");
    PQclear(res);
    return false;
}

static bool read_message(struct replication *r, size_t len, struct replication_message *m,
                         struct err *e)
{
    struct bytes b = { r->message, len };
    uint8_t kind = 0, wants_reply = 0;
    uint64_t ts;
    bool ok = bytes_u8(&b, &kind);

    if (ok && kind == 'w') {
        m->kind = REPLICATION_DATA;
        ok = bytes_u64(&b, &m->lsn) && bytes_u64(&b, &m->end) && bytes_u64(&b, &ts);
        m->p = b.p;
        m->len = b.left;
    } else if (ok && kind == 'k') {
        m->kind = REPLICATION_KEEPALIVE;
        ok = bytes_u64(&b, &m->end) && bytes_u64(&b, &ts) && bytes_u8(&b, &wants_reply) &&
             b.left == 0;
        m->wants_reply = wants_reply != 0;
    } else {
        ok = false;
    }
    if (ok)
        return true;
    err_set(e, ERR_ANSWER, "a message of the stream, of kind 0x%02x and %zu bytes, cannot be read",
            kind, len);
    return wire_fail_answer(conn_wire(r->conn), e);
}

static bool send_status(struct replication *r, uint64_t lsn, bool wants_reply, struct err *e)
{
    struct wire *w = conn_wire(r->conn);
    struct timespec now;
    char status[34], *to = status;

    clock_gettime(CLOCK_REALTIME, &now);
    to = bytes_put_u8(to, 'r');
    for (int i = 0; i < 3; i++) /* written, flushed, applied */
        to = bytes_put_u64(to, lsn);
    to = bytes_put_u64(to, (uint64_t)((now.tv_sec - EPOCH_S) * 1000000 + now.tv_nsec / 1000));
    bytes_put_u8(to, wants_reply);
    return (PQputCopyData(w->pg, status, sizeof status) == 1 || wire_fail(w, e)) &&
           wire_send(w, e);
}

bool replication_confirm(struct replication *r, uint64_t lsn, bool asks, struct err *e)
{
    r->confirmed = lsn;
    return send_status(r, lsn, asks, e);
}

bool replication_ask(struct replication *r, struct err *e)
{
    return send_status(r, r->confirmed, true, e);
}

/* Nothing has come until now. A server sends a keepalive now and then, and answers when asked. */
static bool check_silence(struct replication *r, int64_t *next_ms, struct err *e)
{
    int64_t now = clock_mono_ms(), patience = conn_patience_ms(r->conn);

    if (r->asked_ms == 0) {
        *next_ms = r->heard_ms + patience;
        if (now < *next_ms)
            return true;
        r->asked_ms = now;
        if (!send_status(r, r->confirmed, true, e))
            return false;
    }
    *next_ms = r->asked_ms + patience;
    return now < *next_ms ||
           err_set(e, ERR_CONNECTION, "the server has sent nothing for %d s, and does not answer",
                   (int)((now - r->heard_ms) / 1000));
}

/* Waits until there may be something to read. *is_over: the deadline has passed, and what had come
 * by then was read. */
static bool wait(struct replication *r, int64_t deadline_ms, bool *is_over, struct err *e)
{
    struct wire *w = conn_wire(r->conn);
    int64_t next_ms;

    if (!check_silence(r, &next_ms, e))
        return false;
    if (next_ms > deadline_ms)
        next_ms = deadline_ms;
    *is_over = clock_mono_ms() >= deadline_ms;
    if (!*is_over && !wire_wait(w, POLLIN, next_ms, e))
        return e->code == ERR_CONNECTION && clock_mono_ms() >= next_ms;
    return wire_consume(w, e);
}

bool replication_next(struct replication *r, int64_t deadline_ms, struct replication_message *m,
                      struct err *e)
{
    struct wire *w = conn_wire(r->conn);
    bool is_over = false;
    int n;

    *m = (struct replication_message){ .kind = REPLICATION_NOTHING };
    PQfreemem(r->message), r->message = NULL;
    while ((n = PQgetCopyData(w->pg, &r->message, 1)) == 0) {
        if (is_over)
            return true;
        if (!wait(r, deadline_ms, &is_over, e))
            return false;
    }
    if (n < 0)
        return n == -1 ? fail_ended(r, e) : wire_fail(w, e);
    w->came = 0;
    r->heard_ms = clock_mono_ms();
    r->asked_ms = 0;
    return read_message(r, (size_t)n, m, e);
}
