/* conninfo.c -- connection strings: what they say, their variables, and what the sandbox allows.
 * SPDX-License-Identifier: MIT */
#include "pg/conninfo.h"

#include "base/variable.h"
#include "pg/connect.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

/* A file that is not there and that nobody can make. libpq looks for its default files unless
 * others are named, and goes on without those that do not exist. */
#define NOWHERE "/dev/null/none"
#define CONFINED "passfile='" NOWHERE "'"

/* What a sandboxed script may say. Nothing here names a file, except host: a socket. */
static const char *const allowed[] = {
    "host", "hostaddr", "port", "dbname", "user", "password", "connect_timeout",
    "application_name", "fallback_application_name", "client_encoding", "keepalives",
    "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslmode",
    "sslnegotiation", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "channel_binding", "require_auth", "requirepeer", "target_session_attrs", "load_balance_hosts",
    "min_protocol_version", "max_protocol_version",
};

/* What a connection would use of the user's otherwise: a certificate, Kerberos tickets. */
static const struct {
    const char *keyword, *value;
} shut[] = {
    { "sslcert", NOWHERE }, { "sslkey", NOWHERE }, { "gssencmode", "disable" },
    { "krbsrvname", "none" },
};

static void put(struct buf *to, const char *keyword, const char *value)
{
    buf_printf(to, "%s%s='", to->len > 0 ? " " : "", keyword);
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '\'')
            buf_putc(to, '\\');
        buf_putc(to, *value);
    }
    buf_putc(to, '\'');
}

static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val;
    return NULL;
}

/* Sets *given to the options that <conninfo> has; NULL if it is the name of a database, or "". */
static bool parse(const char *conninfo, PQconninfoOption **given, struct err *e)
{
    *given = NULL;
    if (!connect_check(conninfo, e))
        return false;
    if (connect_is_name(conninfo))
        return true;
    *given = PQconninfoParse(conninfo, NULL);
    return *given != NULL || err_memory(e);
}

static bool finish(const struct buf *to, struct err *e)
{
    return buf_ok(to) || err_memory(e);
}

/* ---- variables ---- */

static bool put_expanded(struct buf *to, const PQconninfoOption *o, struct err *e)
{
    struct buf value;
    bool ok;

    buf_init(&value, BUF_SQL_MAX);
    ok = variable_expand(&value, o->val, e) || err_prefix(e, "%s", o->keyword);
    if (ok)
        put(to, o->keyword, value.data != NULL ? value.data : "");
    buf_fini(&value);
    return ok;
}

bool conninfo_expand(struct buf *to, const char *conninfo, struct err *e)
{
    PQconninfoOption *given;
    bool ok = true;

    if (strchr(conninfo, '$') == NULL) {
        buf_puts(to, conninfo);
        return finish(to, e);
    }
    if (connect_is_name(conninfo))
        return variable_expand(to, conninfo, e);
    given = PQconninfoParse(conninfo, NULL);
    if (given == NULL)
        return connect_check(conninfo, e) ? err_memory(e) : false;
    for (const PQconninfoOption *o = given; ok && o->keyword != NULL; o++)
        if (o->val != NULL)
            ok = put_expanded(to, o, e);
    PQconninfoFree(given);
    return ok && finish(to, e);
}

/* ---- --dsn ---- */

/* The value that the environment or the service file gives an option; NULL for libpq's built-in
 * default, since some defaults depend on other options. */
static const char *said(const PQconninfoOption *o)
{
    return o->val != NULL && o->compiled != NULL && strcmp(o->val, o->compiled) == 0 ? NULL
                                                                                     : o->val;
}

bool conninfo_resolve(struct buf *to, const char *conninfo, struct err *e)
{
    PQconninfoOption *given, *defaults = NULL;
    bool ok = parse(conninfo, &given, e);
    const char *service = ok ? value_of(given, "service") : NULL;
    const char *file = ok ? value_of(given, "servicefile") : NULL;

    if (service != NULL)
        ok = setenv("PGSERVICE", service, 1) == 0 || err_memory(e);
    if (ok && file != NULL)
        ok = setenv("PGSERVICEFILE", file, 1) == 0 || err_memory(e);
    if (ok) {
        defaults = PQconndefaults();
        ok = defaults != NULL || err_memory(e);
    }
    for (const PQconninfoOption *o = defaults; ok && o->keyword != NULL; o++) {
        const char *value = value_of(given, o->keyword);

        if (given == NULL && *conninfo != '\0' && strcmp(o->keyword, "dbname") == 0)
            value = conninfo;
        if (value == NULL)
            value = said(o);
        if (value != NULL)
            put(to, o->keyword, value);
    }
    PQconninfoFree(given);
    PQconninfoFree(defaults);
    return ok && finish(to, e);
}

void conninfo_user(struct buf *to, const char *conninfo)
{
    struct err ignored;
    PQconninfoOption *given, *defaults = NULL;
    const char *user;

    if (!parse(conninfo, &given, &ignored))
        return;
    user = value_of(given, "user");
    if (user == NULL)
        user = value_of(defaults = PQconndefaults(), "user");
    buf_puts(to, user != NULL ? user : "");
    PQconninfoFree(given);
    PQconninfoFree(defaults);
}

/* True for a variable that libpq reads. (Ours begin with PGCDC.) */
static bool is_of_libpq(const char *variable)
{
    static const char *const kept[] = { "PGCDC", "PGSERVICEFILE=", "PGSYSCONFDIR=",
                                        "PGLOCALEDIR=" };

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strncmp(variable, kept[i], strlen(kept[i])) == 0)
            return false;
    return strncmp(variable, "PG", 2) == 0;
}

extern char **environ;

void conninfo_clear_environment(void)
{
    for (char **p = environ; p != NULL && *p != NULL;) {
        char name[100];
        size_t len = strcspn(*p, "=");

        if (!is_of_libpq(*p) || len >= sizeof name) {
            p++;
            continue;
        }
        memcpy(name, *p, len);
        name[len] = '\0';
        unsetenv(name); /* the next one moves here */
        p = environ;
    }
}

/* ---- a script's own ---- */

static bool is_allowed(const char *keyword)
{
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strcmp(allowed[i], keyword) == 0)
            return true;
    return false;
}

static bool fail_keyword(const char *keyword, struct err *e)
{
    return err_set(e, ERR_USAGE,
                   "the sandbox allows no %s in a connection of the script's; it allows host, "
                   "hostaddr, port, dbname, user, password, sslmode and what else names no file "
                   "and no options of the server", keyword);
}

bool conninfo_confine(struct buf *to, const char *conninfo, struct err *e)
{
    PQconninfoOption *given, *known = NULL;
    bool ok = parse(conninfo, &given, e);

    for (const PQconninfoOption *o = given; ok && o != NULL && o->keyword != NULL; o++)
        if (o->val != NULL && !is_allowed(o->keyword))
            ok = fail_keyword(o->keyword, e);
    if (ok) {
        known = PQconndefaults();
        ok = known != NULL || err_memory(e);
    }
    buf_puts(to, CONFINED);
    for (const PQconninfoOption *o = known; ok && o->keyword != NULL; o++) {
        const char *value = value_of(given, o->keyword);

        for (size_t i = 0; i < sizeof shut / sizeof *shut; i++)
            if (strcmp(shut[i].keyword, o->keyword) == 0)
                value = shut[i].value;
        if (given == NULL && *conninfo != '\0' && strcmp(o->keyword, "dbname") == 0)
            value = conninfo;
        if (value != NULL)
            put(to, o->keyword, value);
    }
    PQconninfoFree(given);
    PQconninfoFree(known);
    return ok && finish(to, e);
}

bool conninfo_is_confined(const char *conninfo)
{
    return strncmp(conninfo, CONFINED, sizeof CONFINED - 1) == 0;
}
