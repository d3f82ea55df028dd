/* schema.c -- the tables of a state that is kept in a database.
 * SPDX-License-Identifier: MIT */
#include "state/schema.h"

#include "base/buf.h"

#include <inttypes.h>
#include <stdio.h>

#define FORMAT 1
#define MARK "pgcdc-lua state, format " /* and the number: the comment */
#define TEXT_OF(n) #n
#define NUMBER(n) TEXT_OF(n)

const char *const schema_statements[] = {
    "CREATE SCHEMA IF NOT EXISTS pgcdc",
    "CREATE TABLE IF NOT EXISTS pgcdc.state (pipeline text, kind text, name bytea, key bytea,"
    " value bytea NOT NULL, saved timestamptz NOT NULL DEFAULT now(),"
    " PRIMARY KEY (pipeline, kind, name, key))",
    "CREATE TABLE IF NOT EXISTS pgcdc.state_rows (pipeline text, source text, id bigint,"
    " hash bigint NOT NULL, xid bigint NOT NULL, digest bigint NOT NULL, flags bigint NOT NULL,"
    " note bigint NOT NULL, sum bigint NOT NULL, key bytea NOT NULL, form bigint, \"row\" bytea,"
    " older bytea, PRIMARY KEY (pipeline, source, id))",
    "CREATE TABLE IF NOT EXISTS pgcdc.lease (pipeline text PRIMARY KEY, owner text NOT NULL,"
    " epoch bigint NOT NULL, expires timestamptz NOT NULL, since timestamptz NOT NULL,"
    " host text NOT NULL, pid int NOT NULL, next text, next_until timestamptz)",
    "CREATE TABLE IF NOT EXISTS pgcdc.standby (pipeline text, owner text, host text NOT NULL,"
    " pid int NOT NULL, seen timestamptz NOT NULL, wished timestamptz,"
    " PRIMARY KEY (pipeline, owner))",
    "COMMENT ON TABLE pgcdc.lease IS '" MARK NUMBER(FORMAT) "'",
    NULL
};

/* What a database is, and what is there of ours. */
static const char question[] =
    "SELECT pg_catalog.current_setting('server_encoding'), pg_catalog.pg_is_in_recovery(),"
    " pg_catalog.quote_ident(pg_catalog.current_database()),"
    " pg_catalog.quote_ident(current_user), pg_catalog.count(c.oid) = 4,"
    " coalesce(pg_catalog.max(pg_catalog.substr(pg_catalog.obj_description(c.oid, 'pg_class'),"
    " length('" MARK "') + 1)), ''),"
    " coalesce(pg_catalog.bool_and(pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
    " AND pg_catalog.has_table_privilege(c.oid, 'SELECT')"
    " AND pg_catalog.has_table_privilege(c.oid, 'INSERT')"
    " AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')"
    " AND pg_catalog.has_table_privilege(c.oid, 'DELETE')), false),"
    " pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'pgcdc' AND c.relname IN ('state', 'state_rows', 'lease', 'standby')";

enum { Q_ENCODING, Q_IN_RECOVERY, Q_DATABASE, Q_ROLE, Q_IS_THERE, Q_FORMAT, Q_MAY_WRITE,
       Q_MAY_CREATE };

#define INSTALL "pgcdc-lua state action=install"

static bool check_format(const struct result *r, struct err *e)
{
    const char *format = result_text(r, 0, Q_FORMAT);
    int n = 0;

    if (sscanf(format, "%9d", &n) == 1 && n == FORMAT)
        return true;
    if (n > FORMAT)
        return err_set(e, ERR_STATE, "its tables have format %d, and this pgcdc-lua knows %d: use "
                       "a newer one", n, FORMAT);
    return err_set(e, ERR_STATE, "its tables have format %d, and this pgcdc-lua needs %d: their "
                   "owner brings them up to date with " INSTALL " state=...", n, FORMAT);
}

static bool check_rights(const struct result *r, struct err *e)
{
    const char *role = result_text(r, 0, Q_ROLE);

    if (!result_bool(r, 0, Q_IS_THERE))
        return result_bool(r, 0, Q_MAY_CREATE) ||
               err_set(e, ERR_STATE, "it has no tables for state yet, and %s may not make them: "
                       "GRANT CREATE ON DATABASE %s TO %s, or let its owner run " INSTALL
                       " state=... roles=%s", role, result_text(r, 0, Q_DATABASE), role, role);
    return result_bool(r, 0, Q_MAY_WRITE) ||
           err_set(e, ERR_STATE, "%s may not write state there: GRANT USAGE ON SCHEMA pgcdc TO %s; "
                   "GRANT " SCHEMA_RIGHTS " ON " SCHEMA_TABLES " TO %s", role, role, role);
}

bool schema_look(struct conn *c, bool *is_there, struct err *e)
{
    static const struct result_shape shape = { "what the database is", "tbttbtbb", 1, 1 };
    struct result *r = NULL;
    bool ok = conn_run(c, question, &shape, &r, 1, e);

    if (ok && result_bool(r, 0, Q_IN_RECOVERY))
        ok = err_set(e, ERR_STATE, "it is a standby: state is kept on a primary");
    if (ok && strcmp(result_text(r, 0, Q_ENCODING), "UTF8") != 0)
        ok = err_set(e, ERR_STATE, "its encoding is %s: state is kept in a database with UTF8",
                     result_text(r, 0, Q_ENCODING));
    *is_there = ok && result_bool(r, 0, Q_IS_THERE);
    ok = ok && (!*is_there || check_format(r, e)) && check_rights(r, e);
    result_free(r);
    return ok;
}

bool schema_make(struct conn *c, struct err *e)
{
    struct buf sql;
    bool ok;

    buf_init(&sql, BUF_SQL_MAX);
    buf_puts(&sql, "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock("
             "pg_catalog.hashtext('pgcdc.state'));");
    for (size_t i = 0; schema_statements[i] != NULL; i++)
        buf_printf(&sql, "%s;", schema_statements[i]);
    buf_puts(&sql, "COMMIT");
    ok = (buf_ok(&sql) || err_memory(e)) && conn_run(c, sql.data, NULL, NULL, 0, e);
    buf_fini(&sql);
    return ok;
}
