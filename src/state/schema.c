/* schema.c -- the tables of a state that is kept in a database.
 * SPDX-License-Identifier: MIT */
#include "state/schema.h"

static const char make_tables[] =
    "BEGIN;"
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgcdc.state'));"
    "CREATE SCHEMA IF NOT EXISTS pgcdc;"
    "CREATE TABLE pgcdc.state (pipeline text, kind text, name bytea, key bytea,"
    " value bytea NOT NULL, saved timestamptz NOT NULL DEFAULT now(),"
    " PRIMARY KEY (pipeline, kind, name, key));"
    "CREATE TABLE pgcdc.state_rows (pipeline text, source text, id bigint, hash bigint NOT NULL,"
    " xid bigint NOT NULL, digest bigint NOT NULL, flags bigint NOT NULL, note bigint NOT NULL,"
    " sum bigint NOT NULL, key bytea NOT NULL, form bigint, \"row\" bytea, older bytea,"
    " PRIMARY KEY (pipeline, source, id));"
    "CREATE TABLE pgcdc.lease (pipeline text PRIMARY KEY, owner text NOT NULL,"
    " epoch bigint NOT NULL, expires timestamptz NOT NULL, since timestamptz NOT NULL,"
    " host text NOT NULL, pid int NOT NULL);"
    "COMMIT";

bool schema_look(struct conn *c, bool *is_there, struct err *e)
{
    static const struct result_shape shape = { "what the database is", "tbb", 1, 1 };
    struct result *r = NULL;
    bool ok = conn_run(c,
                       "SELECT pg_catalog.current_setting('server_encoding'),"
                       " pg_catalog.pg_is_in_recovery(),"
                       " pg_catalog.to_regclass('pgcdc.lease') IS NOT NULL", &shape, &r, 1, e);

    if (ok && result_bool(r, 0, 1))
        ok = err_set(e, ERR_STATE, "it is a standby: state is kept on a primary");
    if (ok && strcmp(result_text(r, 0, 0), "UTF8") != 0)
        ok = err_set(e, ERR_STATE, "its encoding is %s: state is kept in a database with UTF8",
                     result_text(r, 0, 0));
    *is_there = ok && result_bool(r, 0, 2);
    result_free(r);
    return ok;
}

bool schema_make(struct conn *c, struct err *e)
{
    return conn_run(c, make_tables, NULL, NULL, 0, e);
}
