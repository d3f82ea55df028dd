/* unit.h -- a runner for unit tests of C.
 * SPDX-License-Identifier: MIT
 *
 * Each file defines a list of cases, unit.c runs one or all. A case ends at
 * its first failure. */
#ifndef UNIT_H
#define UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unit_case {
    const char *name;
    void (*run)(void);
};

/* Each ends with an entry without a name. */
extern const struct unit_case array_cases[];
extern const struct unit_case buf_cases[];
extern const struct unit_case bytes_cases[];
extern const struct unit_case chunk_cases[];
extern const struct unit_case clock_cases[];
extern const struct unit_case copytext_cases[];
extern const struct unit_case delivery_cases[];
extern const struct unit_case file_cases[];
extern const struct unit_case follower_turns_cases[];
extern const struct unit_case hash_cases[];
extern const struct unit_case health_cases[];
extern const struct unit_case horizon_cases[];
extern const struct unit_case hints_cases[];
extern const struct unit_case identity_cases[];
extern const struct unit_case increment_cases[];
extern const struct unit_case kept_row_cases[];
extern const struct unit_case kept_table_cases[];
extern const struct unit_case missing_cases[];
extern const struct unit_case lag_cases[];
extern const struct unit_case load_cases[];
extern const struct unit_case logical_cases[];
extern const struct unit_case stream_place_cases[];
extern const struct unit_case lsn_cases[];
extern const struct unit_case message_cases[];
extern const struct unit_case outbox_cases[];
extern const struct unit_case method_cases[];
extern const struct unit_case pages_cases[];
extern const struct unit_case path_cases[];
extern const struct unit_case pgoutput_cases[];
extern const struct unit_case position_cases[];
extern const struct unit_case position_text_cases[];
extern const struct unit_case queue_cases[];
extern const struct unit_case seq_cases[];
extern const struct unit_case slot_stuck_cases[];
extern const struct unit_case session_cases[];
extern const struct unit_case text_cases[];
extern const struct unit_case types_cases[];

/* Bytes that are no character, each in a way of its own; a NULL after them. */
extern const char *const unit_bad_utf8[];

/* Ends the program with a message unless <ok>. */
void unit_check(bool ok, const char *what, const char *file, int line);
void unit_equal_u64(uint64_t got, uint64_t wanted, const char *what, const char *file, int line);
void unit_equal_text(const char *got, size_t got_len, const char *wanted, size_t wanted_len,
                     const char *what, const char *file, int line);

#define CHECK(x) unit_check((x), #x, __FILE__, __LINE__)
#define EQUAL(got, wanted) unit_equal_u64((got), (wanted), #got, __FILE__, __LINE__)
/* <wanted>: a literal, zero bytes and all */
#define EQUAL_TEXT(got, len, wanted) \
    unit_equal_text((got), (len), "" wanted, sizeof(wanted) - 1, #got, __FILE__, __LINE__)

/* Random numbers that are the same every time. */
uint64_t unit_random(uint64_t *state);

#endif
