/* home_transfer.c -- a mutant of copies of states, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * The home that was left can still be used: what has come since the copy comes again.
 *
 * Linked in place of src/state/transfer.c. */
#define transfer_check transfer_check_by_the_rule
#include "../../src/state/transfer.c"
#undef transfer_check

bool transfer_check(struct store *s, struct err *e) WARN_UNUSED;

bool transfer_check(struct store *s, struct err *e)
{
    (void)s;
    (void)e;
    return true;
}
