/* home_database.c -- a mutant of saves into a database, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * A save does not compare the epoch: who was taken over can still save, as long as nobody else has.
 *
 * Linked in place of src/state/database.c. */
#include "pg/conn.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool run_without_epoch(struct conn *c, const char *sql, const struct result_shape *shapes,
                              struct result **results, size_t n, struct err *e);

#define conn_run run_without_epoch
#include "../../src/state/database.c"
#undef conn_run

static bool run_without_epoch(struct conn *c, const char *sql, const struct result_shape *shapes,
                              struct result **results, size_t n, struct err *e)
{
    static const char condition[] = " AND epoch = ";
    char *text = strdup(sql);
    bool ok;

    if (text == NULL)
        return err_memory(e);
    for (char *p = strstr(text, condition); p != NULL; p = strstr(p, condition)) {
        size_t len = sizeof condition - 1;

        while (isdigit((unsigned char)p[len]))
            len++;
        memset(p, ' ', len);
    }
    ok = conn_run(c, text, shapes, results, n, e);
    free(text);
    return ok;
}
