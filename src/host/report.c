/* report.c -- what the log says of a run.
 * SPDX-License-Identifier: MIT */
#include "host/report.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void report_notice(struct log *log, const char *name, const struct message_notice *n)
{
    struct log_field fields[3];
    const struct err *what = &n->err;
    char retry[32];
    size_t n_fields = 0;

    fields[n_fields++] = (struct log_field){ "source", name, strlen(name), false };
    if (what->sqlstate[0] != '\0')
        fields[n_fields++] = (struct log_field){ "sqlstate", what->sqlstate,
                                                 strlen(what->sqlstate), false };
    if (n->retry_ms >= 0) {
        snprintf(retry, sizeof retry, "%.1f", (double)n->retry_ms / 1000);
        fields[n_fields++] = (struct log_field){ "retry_in", retry, strlen(retry), true };
    }
    log_line(log, n->level, what->msg, strlen(what->msg), fields, n_fields);
}

void report_total(struct log *log, const char *name, const struct delivery *d, int64_t began_ms)
{
    char rows[32], bytes[32], seconds[32];
    uint64_t n_rows, n_bytes;

    delivery_totals(d, &n_rows, &n_bytes);
    snprintf(rows, sizeof rows, "%" PRIu64, n_rows);
    snprintf(bytes, sizeof bytes, "%" PRIu64, n_bytes);
    snprintf(seconds, sizeof seconds, "%.3f", (double)(clock_mono_ms() - began_ms) / 1000);
    log_line(log, LOG_INFO, "done", 4, (struct log_field[]){
        { "source", name, strlen(name), false }, { "rows", rows, strlen(rows), true },
        { "bytes", bytes, strlen(bytes), true }, { "seconds", seconds, strlen(seconds), true } },
        4);
}

void report_failure(const struct script *s, struct log *log, const struct err *e)
{
    struct log_field fields[2];
    size_t n = 0;

    if (e->sqlstate[0] != '\0')
        fields[n++] = (struct log_field){ "sqlstate", e->sqlstate, strlen(e->sqlstate), false };
    if (e->code == ERR_SCRIPT && s != NULL && s->traceback != NULL &&
        strchr(s->traceback, '\n') != NULL) /* it shows a frame */
        fields[n++] = (struct log_field){ "traceback", s->traceback, strlen(s->traceback), false };
    log_line(log, LOG_ERROR, e->msg, strlen(e->msg), fields, n);
}
