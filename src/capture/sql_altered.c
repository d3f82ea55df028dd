/* sql_altered.c -- which transaction has altered a table last.
 * SPDX-License-Identifier: MIT */
#include "capture/sql_altered.h"

#include "capture/sql.h"

#include <inttypes.h>

/* A snapshot shows nothing of xids from its xmax on. So what is above that is of the time before
 * the last wrap of the lower half. */
void sql_altered_put_xmin(struct buf *sql, const char *alias)
{
    buf_printf(sql, "(SELECT CASE WHEN w < m THEN w ELSE w - 4294967296 END FROM (SELECT"
               " %s.xmin::text::int8 + m - m %% 4294967296, m FROM (SELECT"
               " pg_snapshot_xmax(pg_current_snapshot())::text::int8) AS s(m)) AS r(w, m))", alias);
}

void sql_altered_put(struct buf *sql, const struct relation *t)
{
    buf_printf(sql, "(WITH RECURSIVE tree(oid) AS (SELECT %" PRIu32 "::oid WHERE %" PRIu32 " = ",
               t->oid, t->oid);
    sql_put_regclass(sql, t);
    buf_puts(sql, "::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent ="
                  " tree.oid) SELECT max(x) FROM (SELECT ");
    sql_altered_put_xmin(sql, "c");
    buf_puts(sql, " FROM tree JOIN pg_class c USING (oid) UNION ALL SELECT ");
    sql_altered_put_xmin(sql, "i");
    buf_puts(sql, " FROM tree JOIN pg_inherits i ON i.inhrelid = tree.oid UNION ALL SELECT ");
    sql_altered_put_xmin(sql, "a");
    buf_printf(sql, " FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid WHERE tree.oid = %"
               PRIu32 ") AS xids(x))", t->oid);
}
