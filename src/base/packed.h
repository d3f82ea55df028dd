/* packed.h -- records of several texts as bytes, one behind the other.
 *
 * A record is its head, then its parts: the length of each, and its bytes; PACKED_ABSENT and none
 * of a part that is absent. The outbox of a sink keeps such records, and modules read them. They
 * stay on one machine, in one run.
 *
 * SPDX-License-Identifier: MIT */
#ifndef PACKED_H
#define PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PACKED_ABSENT UINT32_MAX
#define PACKED_LEFT_OUT 0x80000000u

struct packed_head {
    uint32_t len; /* of the record, with its head */
    uint32_t parts; /* with PACKED_LEFT_OUT: it is passed over */
    uint64_t lane;
};

struct packed_part {
    const char *text; /* borrowed; NULL: it is absent */
    uint32_t len;
};

/* Takes the part at *at, which is moved behind it. False if it is not all there. */
static inline bool packed_take(const char **at, const char *end, struct packed_part *to)
{
    *to = (struct packed_part){ NULL, 0 };
    if ((size_t)(end - *at) < sizeof to->len)
        return false;
    memcpy(&to->len, *at, sizeof to->len);
    *at += sizeof to->len;
    if (to->len == PACKED_ABSENT) {
        to->len = 0;
        return true;
    }
    if ((size_t)(end - *at) < to->len)
        return false;
    to->text = *at;
    *at += to->len;
    return true;
}

/* Reads the head at <at>. False if the record is not all there. */
static inline bool packed_read(const char *at, const char *end, struct packed_head *to)
{
    if ((size_t)(end - at) < sizeof *to)
        return false;
    memcpy(to, at, sizeof *to);
    return to->len >= sizeof *to && (size_t)(end - at) >= to->len;
}

#endif
