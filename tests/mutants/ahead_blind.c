/* ahead_blind.c -- a mutant of what fills values that the log lacks, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * Nobody looks at the log beyond: a value that a query finds is taken, though the log may have a
 * later change of it.
 *
 * Linked in place of src/capture/stream_ahead.c. */
#define stream_ahead_read stream_ahead_read_by_the_rule
#include "../../src/capture/stream_ahead.c"
#undef stream_ahead_read

bool stream_ahead_read(struct stream_ahead *a, struct replication *r, uint64_t lsn,
                       bool *is_there, struct err *e);

bool stream_ahead_read(struct stream_ahead *a, struct replication *r, uint64_t lsn,
                       bool *is_there, struct err *e)
{
    if (!stream_ahead_read_by_the_rule(a, r, 0, is_there, e))
        return false;
    *is_there = lsn > 0;
    return true;
}
