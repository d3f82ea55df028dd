/* unit.c -- runs the unit tests: unit [--list | CASE].
 * SPDX-License-Identifier: MIT */
#include "unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *running = "?";

void unit_check(bool ok, const char *what, const char *file, int line)
{
    if (ok)
        return;
    fprintf(stderr, "%s: %s:%d: %s\n", running, file, line, what);
    exit(1);
}

void unit_equal_u64(uint64_t got, uint64_t wanted, const char *what, const char *file, int line)
{
    if (got == wanted)
        return;
    fprintf(stderr, "%s: %s:%d: %s is %" PRIu64 ", not %" PRIu64 "\n", running, file, line, what,
            got, wanted);
    exit(1);
}

void unit_equal_text(const char *got, size_t got_len, const char *wanted, size_t wanted_len,
                     const char *what, const char *file, int line)
{
    if (got_len == wanted_len && memcmp(got, wanted, got_len) == 0)
        return;
    fprintf(stderr, "%s: %s:%d: %s is <%.*s>, not <%.*s>\n", running, file, line, what,
            (int)got_len, got, (int)wanted_len, wanted);
    exit(1);
}

uint64_t unit_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

const char *const unit_bad_utf8[] = { "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(",
    "\xe0\x9f\xbf", "\xe2\x82", "\xe2(\xa1", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf",
    "\xf0\x9f\x90", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff", NULL };

int main(int argc, char **argv)
{
    const struct unit_case *const lists[] = {
        array_cases,
        buf_cases,
        bytes_cases,
        chunk_cases,
        clock_cases,
        copytext_cases,
        delivery_cases,
        file_cases,
        follower_turns_cases,
        hash_cases,
        health_cases,
        hints_cases,
        horizon_cases,
        identity_cases,
        increment_cases,
        kept_row_cases,
        kept_table_cases,
        missing_cases,
        lag_cases, load_cases,
        logical_cases,
        stream_place_cases,
        lsn_cases,
        message_cases,
        outbox_cases,
        method_cases,
        pages_cases,
        path_cases,
        pgoutput_cases,
        position_cases,
        position_text_cases,
        queue_cases,
        seq_cases,
        slot_stuck_cases,
        session_cases,
        text_cases,
        types_cases,
    };
    bool only_list = argc > 1 && strcmp(argv[1], "--list") == 0;
    int n = 0;

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const struct unit_case *c = lists[i]; c->name != NULL; c++) {
            if (argc > 1 && !only_list && strcmp(argv[1], c->name) != 0)
                continue;
            n++;
            running = c->name;
            if (only_list)
                puts(c->name);
            else
                c->run();
        }
    unit_check(n > 0, "there is no such case", __FILE__, __LINE__);
    return 0;
}
