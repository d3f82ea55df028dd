/* slot_errors.c -- what errors of slots, and of the role that uses them, mean.
 * SPDX-License-Identifier: MIT */
#include "capture/slot_errors.h"

#include "capture/slot_holder.h"
#include "capture/sql.h"

#include <stdio.h>
#include <string.h>

/* (42710: a slot of this name is there, as that of a program that was killed a moment ago.) */
bool slot_errors_is_in_use(const struct err *e)
{
    return strcmp(e->sqlstate, "55006") == 0 || strcmp(e->sqlstate, "42710") == 0;
}

static const struct result_shape shape = { "what is known of slots", "ttt", 1, 1 };

/* The role, how many slots there are, and the names of those that nobody reads. */
static struct result *ask(struct conn *conn)
{
    struct result *rows = NULL;
    struct err ignored;

    if (conn != NULL &&
        conn_run(conn, "SELECT pg_catalog.quote_ident(current_user),"
                       " current_setting('max_replication_slots'), coalesce((SELECT"
                       " string_agg(slot_name::text, ', ' ORDER BY slot_name) FROM"
                       " pg_catalog.pg_replication_slots WHERE NOT active), 'none')",
                 &shape, &rows, 1, &ignored))
        return rows;
    result_free(rows);
    return NULL;
}

/* "replication slot "x" is active for PID 123" */
static bool explain_in_use(const struct config *c, struct conn *conn, struct err *e)
{
    const struct err cause = *e;
    const char *pid = strstr(cause.msg, "active for PID ");
    bool is_free = slot_holder_end_former(c, conn);

    if (is_free)
        err_set(e, ERR_CONNECTION, "slot %s was still read by a process that had the pipeline "
                "before: its connection was ended", c->slot);
    else if (pid == NULL) /* it is being dropped, or made */
        err_set(e, ERR_CONNECTION, "slot %s is in use: %.500s", c->slot, cause.msg);
    else
        err_set(e, ERR_CONNECTION, "slot %s is in use by pid %.*s: is the script running twice?",
                c->slot, (int)strspn(pid + 15, "0123456789"), pid + 15);
    memcpy(e->sqlstate, cause.sqlstate, sizeof e->sqlstate);
    return is_free;
}

/* Versions say it in their own ways. */
static bool is_of_replication(const struct err *e)
{
    return strstr(e->msg, "replication") != NULL || strstr(e->msg, "REPLICATION") != NULL ||
           strstr(e->msg, "WAL sender") != NULL;
}

static void explain_role(const struct result *known, struct err *e)
{
    const struct err cause = *e;
    const char *role = known != NULL ? result_text(known, 0, 0) : "...";

    err_set(e, ERR_REFUSED, "role %.63s may not replicate: ALTER ROLE %.63s REPLICATION (on RDS: "
            "GRANT rds_replication TO %.63s): %.500s", role, role, role, cause.msg);
}

bool slot_errors_explain(const struct config *c, struct conn *conn, struct err *e)
{
    const struct err cause = *e;
    struct result *known;

    if (slot_errors_is_in_use(e))
        return explain_in_use(c, conn, e);
    if (e->code == ERR_DECODING)
        return err_prefix(e, "slot %s: the server does not get on with its log", c->slot);
    if (e->code != ERR_SQL)
        return false;
    if (strcmp(e->sqlstate, "42501") == 0 && is_of_replication(e)) {
        known = ask(conn);
        explain_role(known, e);
        result_free(known);
    } else if (strcmp(e->sqlstate, "53400") == 0 && (known = ask(conn)) != NULL) {
        err_set(e, ERR_SQL, "all %s replication slots are in use (inactive: %.500s): drop one, or "
                "raise max_replication_slots", result_text(known, 0, 1), result_text(known, 0, 2));
        memcpy(e->sqlstate, cause.sqlstate, sizeof e->sqlstate);
        result_free(known);
    } else if (strcmp(e->sqlstate, "53300") == 0 && strstr(e->msg, "max_wal_senders") != NULL) {
        err_set(e, ERR_SQL, "all WAL senders are in use: raise max_wal_senders: %.500s", cause.msg);
        memcpy(e->sqlstate, cause.sqlstate, sizeof e->sqlstate);
    }
    return false;
}

bool slot_errors_is_lost(const struct err *e)
{
    return (e->code == ERR_SQL || e->code == ERR_DECODING) &&
           (strcmp(e->sqlstate, "42704") == 0 || strcmp(e->sqlstate, "55000") == 0);
}
