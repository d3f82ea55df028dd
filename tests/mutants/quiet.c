/* quiet.c -- mutants of the rule of counters, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * $PGCDC_QUIET_RULE says which:
 *   rise    the floor moves though the poll was left out
 *   reset   counters that were reset, and have come to the same sum again, stand still
 *   age     the last scan may be as old as it likes
 *
 * Linked in place of src/capture/quiet.c. */
#include <stdlib.h>

#define quiet_holds quiet_holds_by_the_rule
#define quiet_lets_rise quiet_lets_rise_by_the_rule
#include "../../src/capture/quiet.c"
#undef quiet_holds
#undef quiet_lets_rise

bool quiet_holds(const struct quiet *q, int64_t most_ms, int64_t now_ms);
bool quiet_lets_rise(const struct quiet *q);

static bool is_rule(const char *rule)
{
    const char *chosen = getenv("PGCDC_QUIET_RULE");

    return chosen != NULL && strcmp(chosen, rule) == 0;
}

bool quiet_holds(const struct quiet *q, int64_t most_ms, int64_t now_ms)
{
    struct quiet other = *q;

    if (is_rule("reset"))
        other.asked = (struct quiet_counters){ .is_known = q->asked.is_known,
                                               .sum = q->asked.sum };
    if (is_rule("reset"))
        *other.scanned.reset = '\0';
    return quiet_holds_by_the_rule(&other, is_rule("age") ? INT64_MAX : most_ms, now_ms);
}

bool quiet_lets_rise(const struct quiet *q)
{
    return is_rule("rise") || quiet_lets_rise_by_the_rule(q);
}
