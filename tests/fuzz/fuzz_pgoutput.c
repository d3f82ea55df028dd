/* fuzz_pgoutput.c -- any bytes as a message of pgoutput.
 * SPDX-License-Identifier: MIT
 *
 * Either it is refused, as an answer that no server gives, or all that was read lies within the
 * message, each column and field of it, and as many as it says. */
#include "fuzz.h"

#include "pg/pgoutput.h"

#include <string.h>

static const char *begin, *end;

static void check_within(const char *p, size_t len)
{
    CHECK(p >= begin && p <= end && len <= (size_t)(end - p));
}

static void check_tuple(struct pgoutput_tuple tuple)
{
    struct pgoutput_field f;
    size_t n = tuple.n, i = 0;

    for (; pgoutput_next_field(&tuple, &f); i++) {
        check_within(tuple.p, 0);
        if (f.value == PGOUTPUT_TEXT)
            check_within(f.p, f.len);
    }
    CHECK(i == n);
}

static void check_relation(struct pgoutput_relation r)
{
    struct pgoutput_column column;
    size_t n = r.columns.n, i = 0;

    check_within(r.schema, strlen(r.schema) + 1);
    check_within(r.name, strlen(r.name) + 1);
    for (; pgoutput_next_column(&r.columns, &column); i++) {
        check_within(r.columns.p, 0);
        check_within(column.name, strlen(column.name) + 1);
    }
    CHECK(i == n);
}

void fuzz_pgoutput(const uint8_t *p, size_t len)
{
    struct pgoutput_message m;
    struct err e = { 0 };

    begin = (const char *)p;
    end = begin + len;
    if (!pgoutput_read(&m, begin, len, &e)) {
        CHECK(e.code == ERR_ANSWER && fuzz_is_line(e.msg, strlen(e.msg)));
        return;
    }
    switch (m.kind) {
    case PGOUTPUT_RELATION:
        check_relation(m.relation);
        break;
    case PGOUTPUT_INSERT:
    case PGOUTPUT_UPDATE:
    case PGOUTPUT_DELETE:
        CHECK(m.kind != PGOUTPUT_INSERT || m.row.has_old == PGOUTPUT_NO_OLD);
        if (m.row.has_old != PGOUTPUT_NO_OLD)
            check_tuple(m.row.old);
        if (m.kind != PGOUTPUT_DELETE)
            check_tuple(m.row.new);
        break;
    case PGOUTPUT_TRUNCATE:
        check_within(m.truncate.relations, 4 * m.truncate.n);
        if (m.truncate.n > 0)
            (void)pgoutput_truncated(&m.truncate, m.truncate.n - 1);
        break;
    case PGOUTPUT_MESSAGE:
        check_within(m.logical.prefix, strlen(m.logical.prefix) + 1);
        check_within(m.logical.p, m.logical.len);
        break;
    case PGOUTPUT_BEGIN:
    case PGOUTPUT_COMMIT:
    case PGOUTPUT_ORIGIN:
    case PGOUTPUT_TYPE:
        break;
    }
}
