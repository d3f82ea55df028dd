/* link.h -- how rows of one form become rows of another.
 *
 * What a reshaper (see reshape.h) does with the rows of one form is decided when it meets the
 * first of them, and kept as a link: where the columns come from, and the form of the new rows.
 *
 * Everything here may throw.
 *
 * SPDX-License-Identifier: MIT */
#ifndef LINK_H
#define LINK_H

#include "lua/rowdata.h"

#define LINK_HASHED (SIZE_MAX - 1) /* the key part of ids, to be made */

struct link_column {
    size_t from; /* index into the old columns, LINK_HASHED, or ROWTYPE_NEW */
    bool is_computed;
};

/* User values: the form of the new rows; {place, function, place, function, ...}, places from 1,
 * in the order in which they are called. */
enum { LINK_FORM = 1, LINK_FUNCTIONS };

struct link {
    size_t n, n_functions;
    struct link_column columns[];
};

/* Pushes a link, a userdata, for rows of the form at <form>, as resolve() of the spec at <spec>
 * wants it. <thing>: the first such row, or the change that it is of; <plain>: what the script has
 * put in the place of the change's row, or 0. */
void link_push(lua_State *L, int spec, int form, int thing, int plain); /* [-0, +1] */

/* Call it once per state. */
void link_open(lua_State *L);

#endif
