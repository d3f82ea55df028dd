/* progress.c -- how far a snapshot is, for people.
 * SPDX-License-Identifier: MIT */
#include "host/progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_MS 200
#define LINE_MS 10000
#define BAR_WIDTH 24

static void show_bar(struct log *log, const char *source, double share, uint64_t rows, double rate,
                     double left)
{
    char text[256], bar[BAR_WIDTH + 1];
    int full = (int)(share * BAR_WIDTH);

    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = '\0';
    snprintf(text, sizeof text, "%.60s [%s] %3.0f%%  %" PRIu64 " rows  %.0f/s  %.0f s left", source,
             bar, share * 100, rows, rate, left);
    log_bar(log, text);
}

static void show_line(struct log *log, const char *source, double share, uint64_t rows, double rate,
                      double left, bool is_over)
{
    char n[32], percent[16], per_second[32], seconds[32];
    const char *msg = is_over ? "snapshot finished" : "snapshot";
    struct log_field fields[5] = { { "source", source, strlen(source), false } };

    snprintf(n, sizeof n, "%" PRIu64, rows);
    snprintf(percent, sizeof percent, "%.0f", share * 100);
    snprintf(per_second, sizeof per_second, "%.0f", rate);
    snprintf(seconds, sizeof seconds, "%.0f", left);
    fields[1] = (struct log_field){ "rows", n, strlen(n), true };
    fields[2] = (struct log_field){ "rows_per_s", per_second, strlen(per_second), true };
    fields[3] = (struct log_field){ "percent", percent, strlen(percent), true };
    fields[4] = (struct log_field){ "seconds_left", seconds, strlen(seconds), true };
    log_line(log, LOG_INFO, msg, strlen(msg), fields, is_over ? 3 : 5);
}

void progress_show(struct progress *g, struct log *log, const char *source,
                   const struct position *p)
{
    bool is_bar = isatty(STDERR_FILENO) == 1 && log->level >= LOG_INFO && !log->as_json;
    bool is_over = p->phase == POSITION_POLL;
    int64_t now = clock_mono_ms();
    uint64_t done, total;
    double seconds, share, left;

    position_progress(p, &done, &total);
    if (g->start_ms == 0) {
        *g = (struct progress){ now, now, p->rows, done };
        if (!is_over)
            return;
    }
    if (!is_over && now - g->shown_ms < (is_bar ? BAR_MS : LINE_MS))
        return;
    g->shown_ms = now;
    seconds = (double)(now - g->start_ms) / 1000;
    share = total > 0 ? (double)done / (double)total : 1;
    left = done > g->start_blocks
               ? seconds * (double)(total - done) / (double)(done - g->start_blocks) : 0;
    if (is_over || !is_bar)
        show_line(log, source, share, p->rows,
                  seconds > 0 ? (double)(p->rows - g->start_rows) / seconds : 0, left, is_over);
    else
        show_bar(log, source, share, p->rows, (double)(p->rows - g->start_rows) / seconds, left);
    if (is_over)
        *g = (struct progress){ 0 };
}
