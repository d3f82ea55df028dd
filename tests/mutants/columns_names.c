/* columns_names.c -- a mutant of which columns the log's are, which a test must find out.
 * SPDX-License-Identifier: MIT
 *
 * A column is the one that has its name now: but that may be another one, or have another name.
 *
 * Linked in place of src/capture/log_columns.c. */
#define log_columns_number log_columns_number_by_the_rule
#include "../../src/capture/log_columns.c"
#undef log_columns_number

bool log_columns_number(const struct log_columns *c, const struct rowtype *now,
                        const struct log_columns_told *told, uint16_t *numbers, bool *is_found,
                        struct err *e);

bool log_columns_number(const struct log_columns *c, const struct rowtype *now,
                        const struct log_columns_told *told, uint16_t *numbers, bool *is_found,
                        struct err *e)
{
    bool ok = log_columns_number_by_the_rule(c, now, told, numbers, is_found, e);

    *is_found = false;
    return ok;
}
