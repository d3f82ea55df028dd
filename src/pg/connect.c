/* connect.c -- how a connection to a server is begun.
 *
 * Our keepalives are set on the socket, not asked of libpq: what is asked for
 * there overrides a service file. tcp_user_timeout is left alone, since it
 * also ends a connection to a server that is alive and takes nothing for so
 * long (a COPY whose trigger is at work); liveness tells the two apart.
 *
 * SPDX-License-Identifier: MIT */
#include "pg/connect.h"

#include "base/text.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECT_TIMEOUT_S 10
#define IDLE_S 30
#define INTERVAL_S 10
#define COUNT 3
#define STATE_CHARACTERS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" /* of an SQLSTATE */

/* A message of libpq or of the server, without the parts meant for psql:
 * "connection to ... failed: FATAL:  28P01: text\nLOCATION: ..." becomes
 * the sqlstate 28P01 and "connection to ... failed: text". */
bool connect_fail(enum err_code code, const char *msg, struct err *e)
{
    const char *end = strstr(msg, "\nLOCATION:");
    const char *found = NULL; /* the ":  " before the sqlstate */
    size_t len = end != NULL ? (size_t)(end - msg) : strlen(msg);
    char state[6] = "";

    for (const char *p = strstr(msg, ":  "); p != NULL; p = strstr(p + 1, ":  ")) {
        size_t n = strspn(p + 3, STATE_CHARACTERS);

        if (n == 5 && strncmp(p + 8, ": ", 2) == 0) {
            memcpy(state, p + 3, 5);
            found = p;
            break;
        }
    }
    if (found != NULL) {
        const char *severity = found, *text = found + 10; /* the severity may be in any language */

        while (severity > msg && !isspace((unsigned char)severity[-1]))
            severity--;
        err_set(e, code, "%.*s%.*s", (int)(severity - msg), msg, (int)(len - (size_t)(text - msg)),
                text);
        memcpy(e->sqlstate, state, sizeof state);
        return false;
    }
    /* the first line says what failed; the lines after it guess the reason */
    if (strncmp(msg, "FATAL:  ", 8) == 0)
        msg += 8;
    return err_set(e, code, "%.*s", (int)strcspn(msg, "\n"), msg);
}

bool connect_fail_result(const PGconn *conn, const PGresult *res, struct err *e)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *msg = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);

    if (state == NULL || msg == NULL) { /* the error is libpq's own */
        msg = PQresultErrorMessage(res);
        connect_fail(PQstatus(conn) == CONNECTION_BAD ? ERR_CONNECTION :
                     strstr(msg, "out of memory") != NULL ? ERR_MEMORY : ERR_ANSWER, msg, e);
        return false;
    }
    if (strlen(state) != 5 || strspn(state, STATE_CHARACTERS) != 5)
        state = "";
    err_set(e, ERR_SQL, "%s%s%s%s%s", msg, detail != NULL ? "; " : "", detail != NULL ? detail : "",
            hint != NULL ? "; " : "", hint != NULL ? hint : "");
    strncpy(e->sqlstate, state, sizeof e->sqlstate - 1);
    e->sqlstate[sizeof e->sqlstate - 1] = '\0';
    return false;
}

static bool looks_like_conninfo(const char *s)
{
    return strchr(s, '=') != NULL || strncmp(s, "postgres://", 11) == 0 ||
           strncmp(s, "postgresql://", 13) == 0;
}

/* A URI whose password was not %-escaped is cut in the wrong places. (A host that begins
 * with @ is an abstract socket.) */
static bool is_garbled(const PQconninfoOption *options)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
        const char *v = o->val;

        if (v == NULL)
            continue;
        if (strcmp(o->keyword, "port") == 0 && v[strspn(v, "0123456789,")] != '\0')
            return true;
        if (strcmp(o->keyword, "host") == 0 && *v != '\0' && strchr(v + 1, '@') != NULL)
            return true;
        if (strcmp(o->keyword, "dbname") == 0 && strchr(v, '@') != NULL)
            return true;
    }
    return false;
}

bool connect_is_name(const char *conninfo)
{
    return !looks_like_conninfo(conninfo);
}

/* libpq's message on a string that it cannot use may quote a part of a password, so it is not shown
 * and the string is not used. A string that is neither a conninfo string nor a URI is the name of a
 * database, which has no : and no @ here. */
bool connect_check(const char *conninfo, struct err *e)
{
    PQconninfoOption *options = NULL;
    char *msg = NULL;
    bool ok;

    if (looks_like_conninfo(conninfo)) {
        options = PQconninfoParse(conninfo, &msg);
        if (options == NULL && msg == NULL)
            return err_memory(e);
        PQfreemem(msg);
        ok = options != NULL && !is_garbled(options);
        PQconninfoFree(options);
    } else {
        ok = strpbrk(conninfo, ":@") == NULL;
    }
    return ok || err_set(e, ERR_USAGE,
                         "the connection string cannot be read (it is not shown, since it may hold "
                         "a password): write host=... dbname=... user=..., or postgres://..., in "
                         "which : @ / in a password are written %%3A %%40 %%2F");
}

PGconn *connect_begin(const char *conninfo, const struct connect_changes *changes, struct err *e)
{
    /* The conninfo in dbname overrides the values before it, and those after it override the
     * conninfo. A value that is NULL is left out. */
    static const char *const keywords[] = { "fallback_application_name", "dbname",
        "client_encoding", "host", "hostaddr", "port", "application_name", "replication", NULL };
    const struct connect_address *to = changes->to;
    const char *values[] = { "pgcdc-lua", conninfo, "UTF8", to->host, to->hostaddr, to->port,
                             changes->name, changes->replication, NULL };
    PGconn *conn;

    if (!connect_check(conninfo, e))
        return NULL;
    conn = PQconnectStartParams(keywords, values, 1);
    if (conn == NULL)
        err_memory(e);
    return conn;
}

/* ---- one of several hosts ---- */

void connect_address_fini(struct connect_address *to)
{
    free(to->host);
    free(to->hostaddr);
    free(to->port);
    *to = (struct connect_address){ NULL, NULL, NULL };
}

struct connect_address connect_same(const PGconn *conn)
{
    return (struct connect_address){ PQhost(conn), PQhostaddr(conn), PQport(conn) };
}

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val != NULL ? o->val : "";
    return "";
}

bool connect_put_place(struct buf *text, const char *conninfo, struct err *e)
{
    static const char *const keywords[] = { "service", "host", "hostaddr", "port", "dbname" };
    bool is_text = looks_like_conninfo(conninfo);
    PQconninfoOption *given = is_text ? PQconninfoParse(conninfo, NULL) : NULL;
    PQconninfoOption *defaults = PQconndefaults();
    bool ok = connect_check(conninfo, e);

    if (ok && (defaults == NULL || (is_text && given == NULL)))
        ok = err_memory(e);
    for (size_t i = 0; ok && i < sizeof keywords / sizeof *keywords; i++) {
        const char *value = given != NULL ? value_of(given, keywords[i]) : "";

        if (*value == '\0' && !is_text && strcmp(keywords[i], "dbname") == 0)
            value = conninfo;
        if (*value == '\0')
            value = value_of(defaults, keywords[i]);
        if (*value == '\0' && strcmp(keywords[i], "dbname") == 0)
            value = given != NULL ? value_of(given, "user") : "";
        buf_printf(text, "%s=%s\n", keywords[i], value);
    }
    PQconninfoFree(given);
    PQconninfoFree(defaults);
    return ok;
}

void connect_hide_files(PGconn *conn, struct err *e)
{
    PQconninfoOption *options = PQconninfo(conn);
    const char *hosts = options != NULL ? value_of(options, "host") : "";
    const char *places = *hosts == '\0' && options != NULL ? value_of(options, "hostaddr") : hosts;
    bool has_socket = strchr("/@,", *places) != NULL; /* "": the default one */
    struct err hidden;

    for (const char *p = places; (p = strchr(p, ',')) != NULL;)
        has_socket = strchr("/@,", *++p) != NULL || has_socket;
    /* the message for a list of hosts tells of each of them; one of the server itself, which has an
     * SQLSTATE, tells of no files */
    if (has_socket && (strchr(hosts, ',') != NULL || e->sqlstate[0] == '\0')) {
        err_set(&hidden, e->code, "connection to server on socket \"%s\" failed", hosts);
        memcpy(hidden.sqlstate, e->sqlstate, sizeof hidden.sqlstate);
        *e = hidden;
    }
    PQconninfoFree(options);
}

/* Item <i> of a list with commas, *len bytes. A list with a single item has it at every index. */
static const char *item(const char *list, size_t i, size_t *len)
{
    const char *only = list;

    for (; i > 0 && list != NULL; i--)
        if ((list = strchr(list, ',')) != NULL)
            list++;
    if (list == NULL)
        list = strchr(only, ',') == NULL ? only : "";
    *len = strcspn(list, ",");
    return list;
}

static bool is_item(const char *list, size_t i, const char *value)
{
    size_t len;
    const char *s = item(list, i, &len);

    return len == 0 || (len == strlen(value) && memcmp(s, value, len) == 0);
}

/* The list without item <skip> of its <n>. Owned, or NULL without memory. */
static char *without(const char *list, size_t n, size_t skip)
{
    char *text = calloc(1, strlen(list) * n + n + 1), *to = text;

    for (size_t i = 0; text != NULL && i < n && *list != '\0'; i++) {
        size_t len;
        const char *s = item(list, i, &len);

        if (i == skip)
            continue;
        if (to > text)
            *to++ = ',';
        memcpy(to, s, len);
        to += len;
    }
    return text;
}

bool connect_others(PGconn *conn, struct connect_address *to)
{
    PQconninfoOption *options = PQconninfo(conn);
    const char *host, *hostaddr, *port, *hosts, *here;
    size_t n = 1, at = 0;

    if (options == NULL)
        return false;
    host = value_of(options, "host");
    hostaddr = value_of(options, "hostaddr");
    port = value_of(options, "port");
    hosts = *hostaddr != '\0' ? hostaddr : host;
    here = *hostaddr != '\0' ? PQhostaddr(conn) : PQhost(conn);
    for (const char *p = hosts; *p != '\0'; p++)
        n += *p == ',';
    while (at + 1 < n && !(is_item(hosts, at, here) && is_item(port, at, PQport(conn))))
        at++;
    if (n > 1) {
        struct connect_address others = { without(host, n, at), without(hostaddr, n, at),
                                  without(port, n, at) };

        connect_address_fini(to);
        *to = others;
    }
    PQconninfoFree(options);
    return n > 1;
}

/* ---- times ---- */

/* The number that option <o> holds, if it is the one called <keyword> and is given. */
static void read_number(const PQconninfoOption *o, const char *keyword, long *to)
{
    int64_t n;

    if (strcmp(o->keyword, keyword) == 0 && o->val != NULL && *o->val != '\0' &&
        text_is_i64(o->val, &n))
        *to = (long)n;
}

/* The options that libpq was given; -1: not given. */
struct asked {
    long connect, keepalives, idle, interval, count;
};

static struct asked read_asked(PGconn *conn)
{
    struct asked a = { -1, -1, -1, -1, -1 };
    PQconninfoOption *options = PQconninfo(conn);

    for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++) {
        read_number(o, "connect_timeout", &a.connect);
        read_number(o, "keepalives", &a.keepalives);
        read_number(o, "keepalives_idle", &a.idle);
        read_number(o, "keepalives_interval", &a.interval);
        read_number(o, "keepalives_count", &a.count);
    }
    PQconninfoFree(options);
    return a;
}

void connect_read_times(PGconn *conn, struct connect_times *t)
{
    struct asked a = read_asked(conn);

    t->connect_ms = (a.connect > 0 ? a.connect : CONNECT_TIMEOUT_S) * 1000;
    t->idle_ms = (a.idle > 0 ? a.idle : IDLE_S) * 1000;
    t->interval_ms = (a.interval > 0 ? a.interval : INTERVAL_S) * 1000;
    t->count = a.keepalives == 0 ? 0 : a.count > 0 ? (unsigned)a.count : COUNT;
}

/* If the socket is not one of TCP the kernel refuses, which does no harm. */
static void set_option(int fd, int option, long asked, int ours)
{
    if (asked < 0)
        setsockopt(fd, IPPROTO_TCP, option, &ours, sizeof ours);
}

void connect_keep_alive(PGconn *conn)
{
    struct asked a = read_asked(conn);
    int fd = PQsocket(conn);

    if (a.keepalives == 0)
        return;
    /* without keepalives=0 libpq has switched them on */
    set_option(fd, TCP_KEEPIDLE, a.idle, IDLE_S);
    set_option(fd, TCP_KEEPINTVL, a.interval, INTERVAL_S);
    set_option(fd, TCP_KEEPCNT, a.count, COUNT);
}
