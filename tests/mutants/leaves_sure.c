/* leaves_sure.c -- a mutant of the rule of partitions that join, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * A change of a new partition says that the log before it has the ATTACH: but it may have been
 * attached once more since, with rows that were written in between.
 *
 * Linked in place of src/capture/log_leaves.c. */
#define log_leaves_are_due log_leaves_are_due_by_the_rule
#include "../../src/capture/log_leaves.c"
#undef log_leaves_are_due

bool log_leaves_are_due(struct log_leaves *l, const struct position *p, bool *is_sure);

bool log_leaves_are_due(struct log_leaves *l, const struct position *p, bool *is_sure)
{
    bool are_due = log_leaves_are_due_by_the_rule(l, p, is_sure);

    *is_sure = true;
    return are_due;
}
