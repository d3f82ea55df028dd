/* sql_parts.c -- the question about what the types of columns consist of.
 * SPDX-License-Identifier: MIT */
#include "capture/sql_parts.h"

const struct result_shape sql_parts_shape = { "what columns consist of", "otT", 0, 1664 };

void sql_parts_of(struct buf *b, const char *first)
{
    buf_puts(b, "WITH RECURSIVE part(num, path, places, typ, typmod) AS (SELECT num,"
                " '{}'::text[] COLLATE \"C\", '{}'::int[], typ, typmod FROM (");
    buf_puts(b, first);
    buf_puts(b, ") AS first(num, typ, typmod)"
                " UNION ALL SELECT num, path || x.step, places || x.place, x.typ, x.typmod"
                " FROM part JOIN pg_catalog.pg_type t ON t.oid = part.typ, LATERAL ("
                "SELECT '{}'::text[], '{}'::int[], t.typbasetype, t.typtypmod"
                " WHERE t.typtype = 'd'"
                " UNION ALL SELECT '{[]}', '{0}', t.typelem, part.typmod WHERE t.typelem <> 0"
                " AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc"
                " UNION ALL SELECT '{<>}', '{0}', rngsubtype, -1 FROM pg_catalog.pg_range"
                " WHERE t.typtype IN ('r', 'm') AND t.oid IN (rngtypid, rngmultitypid)"
                " UNION ALL SELECT ARRAY['.' || attname], ARRAY[attnum::int], atttypid, atttypmod"
                " FROM pg_catalog.pg_attribute WHERE t.typtype = 'c' AND attrelid = t.typrelid"
                " AND attnum > 0 AND NOT attisdropped) AS x(step, place, typ, typmod))"
                " SELECT num, pg_catalog.json_agg(pg_catalog.json_build_array(path,"
                " pg_catalog.format_type(typ, typmod)) ORDER BY places)::text AS parts,"
                " pg_catalog.string_agg(places::text || path::text, ' ' ORDER BY places)"
                " FILTER (WHERE path[pg_catalog.cardinality(path)] LIKE '.%') AS attributes"
                " FROM part JOIN pg_catalog.pg_type t ON t.oid = typ AND t.typtype <> 'd'"
                " GROUP BY num ORDER BY num");
}

void sql_parts(struct buf *b, const struct relation *t)
{
    struct buf first;

    buf_init(&first, BUF_SQL_MAX);
    buf_puts(&first, "SELECT attnum, atttypid, atttypmod FROM pg_attribute WHERE attrelid = ");
    sql_put_regclass(&first, t);
    buf_puts(&first, " AND attnum > 0 AND NOT attisdropped");
    if (buf_ok(&first))
        sql_parts_of(b, first.data);
    else
        b->failed = true;
    buf_fini(&first);
}
