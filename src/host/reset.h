/* reset.h -- which source --reset=SOURCE means, and whether a state is of these sources.
 *
 * What a script calls it: its name, or its table as the script writes it (orders, "Weird Table",
 * sales.orders). A table without a schema means the one of any schema, since only the server knows
 * which it is. What matches exactly counts before what matches but for the schema.
 *
 * SPDX-License-Identifier: MIT */
#ifndef RESET_H
#define RESET_H

#include "base/err.h"
#include "lua/script.h"

/* Forgets the positions of the sources that <s->o.reset> means, if it names any. The state is open.
 * ERR_USAGE: the script has no such source. Refuses, with ERR_STATE, a state in a database whose
 * positions are all of other sources: it is of another script that has the same name. */
bool reset_source(struct script *s, struct err *e) WARN_UNUSED;

#endif
