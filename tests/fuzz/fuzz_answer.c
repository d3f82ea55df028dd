/* fuzz_answer.c -- any bytes as the answers of a server to the questions of a capture.
 * SPDX-License-Identifier: MIT
 *
 * A line is a row, tabs stand between its values, \N is NULL, and a line "=" ends an answer. An
 * answer is refused, or of the shape of its question; then what reads it gets through it. */
#include "fuzz.h"

#include "capture/identity.h"
#include "capture/sql.h"
#include "capture/sql_increment.h"
#include "capture/sql_parts.h"
#include "capture/sql_trigger.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

enum { RESOLVED, FACTS, OPEN, RELATION, LEAVES, COLUMNS, PARTS, TOP, INSTALLED, N };

/* The columns of the first line, in text from *p to <end>. */
static int count_columns(const char *p, const char *end)
{
    int n = 1;

    for (; p < end && *p != '\n'; p++)
        n += *p == '\t';
    return n;
}

/* Reads one answer; *p moves to what follows it. Rows have as many columns as the first. */
static PGresult *read_answer(const char **p, const char *end)
{
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    int n = count_columns(*p, end), row = 0;
    PGresAttDesc *columns = calloc((size_t)n, sizeof *columns);

    for (int i = 0; i < n; i++)
        columns[i].name = (char *)"c";
    CHECK(PQsetResultAttrs(res, n, columns) == 1);
    free(columns);
    while (*p < end) {
        const char *stop = memchr(*p, '\n', (size_t)(end - *p));
        const char *line = *p;

        stop = stop != NULL ? stop : end;
        *p = stop + (stop < end);
        if (stop - line == 1 && *line == '=')
            break;
        for (int i = 0; i < n; i++) {
            const char *tab = line <= stop ? memchr(line, '\t', (size_t)(stop - line)) : NULL;
            const char *to = tab != NULL ? tab : stop;
            bool is_null = line > stop || (to - line == 2 && memcmp(line, "\\N", 2) == 0);

            CHECK(PQsetvalue(res, row, i, is_null ? NULL : (char *)line,
                             is_null ? -1 : (int)(to - line)) == 1);
            line = to + 1;
        }
        row++;
    }
    return res;
}

/* The result, or NULL if it is not of the shape. */
static struct result *check_answer(PGresult *res, const struct result_shape *shape)
{
    struct err e = { 0 };
    struct result *r = result_new(shape, 1 << 20, &e);
    bool ok = result_add(r, res, &e);

    if (!ok)
        PQclear(res);
    ok = ok && result_end(r, res, &e);
    CHECK_OF(ok || e.code == ERR_ANSWER, e.msg, strlen(e.msg));
    if (ok)
        return r;
    result_free(r);
    return NULL;
}

/* Every value can be read as what the shape says. */
static void read_values(const struct result *r, const char *columns)
{
    for (size_t row = 0; row < result_count(r); row++)
        for (size_t i = 0; columns[i] != '\0'; i++) {
            char kind = (char)tolower((unsigned char)columns[i]);
            int64_t n = 0;

            if (kind == 't' || kind == 'c')
                CHECK(result_text(r, row, i) != NULL || columns[i] != kind);
            else if (kind == 'b')
                (void)result_bool(r, row, i);
            else if (kind == 'i')
                CHECK(result_i64(r, row, i, &n) || columns[i] != kind);
            else
                (void)result_u64(r, row, i);
        }
}

static void read_table(struct relation *t, struct result *const *answers)
{
    const struct relation_allowed allowed = { .no_xmin = true };
    const struct config c = { .table = (char *)"t" };
    const struct identity id = { .system = "1" };
    const struct rowtype_answers all = { answers[COLUMNS], answers[PARTS] };
    enum increment_growth growth;
    struct rowtype *rowtype;
    struct err e = { 0 };

    if (!relation_read_name(t, answers[RESOLVED], "t", allowed, &e) ||
        !relation_read_facts(t, answers[RELATION], answers[LEAVES], allowed, &e)) {
        CHECK(e.code == ERR_REFUSED || e.code == ERR_SQL);
        return;
    }
    rowtype = rowtype_read(t, &all, &c, &id, &e);
    CHECK(rowtype != NULL || e.code == ERR_REFUSED || e.code == ERR_ANSWER);
    rowtype_unref(rowtype);
    (void)!rowtype_read_growth(t, answers[COLUMNS], "id", &growth, &e);
}

void fuzz_answer(const uint8_t *p, size_t len)
{
    const struct result_shape shapes[N] = {
        sql_resolve_shape, sql_facts_shape, sql_open_shape, sql_table_shapes[0],
        sql_table_shapes[1], sql_table_shapes[2], sql_parts_shape, sql_increment_top_shape,
        sql_trigger_installed_shape,
    };
    const char *at = (const char *)p, *end = at + len;
    struct result *answers[N];
    struct relation t = { 0 };
    struct identity id = { 0 };
    struct err e = { 0 };
    bool is_whole = true;

    for (size_t i = 0; i < N; i++) {
        answers[i] = check_answer(read_answer(&at, end), &shapes[i]);
        if (answers[i] != NULL)
            read_values(answers[i], shapes[i].columns);
        is_whole = is_whole && (answers[i] != NULL || i == FACTS || i >= TOP || i == OPEN);
    }
    if (answers[FACTS] != NULL && !identity_read(&id, answers[FACTS], 1, &e))
        CHECK(e.code == ERR_ANSWER);
    if (is_whole)
        read_table(&t, answers);
    relation_fini(&t);
    for (size_t i = 0; i < N; i++)
        result_free(answers[i]);
}
