/* logical_twice.c -- a mutant of the rule of the log, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * What the poll that handed over has shown comes by the log again.
 *
 * Linked in place of src/capture/logical.c. */
#define logical_is_done logical_is_done_by_the_rule
#include "../../src/capture/logical.c"
#undef logical_is_done

bool logical_is_done(const struct logical *l, uint64_t commit_lsn, uint64_t xid);

bool logical_is_done(const struct logical *l, uint64_t commit_lsn, uint64_t xid)
{
    (void)xid;
    return commit_lsn < l->lsn;
}
