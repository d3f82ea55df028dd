/* kept_fill.h -- gives a row what its update left as it was.
 *
 * SPDX-License-Identifier: MIT */
#ifndef KEPT_FILL_H
#define KEPT_FILL_H

#include "capture/chunk.h"
#include "state/store.h"

/* Puts fields of <before>, a row of the chunk's type, into row <i>, before which stands a hash,
 * where that is COPYTEXT_UNKNOWN, but for what is computed of other columns, which may be otherwise
 * now. <scratch>: any buffer. False: out of memory. */
bool kept_fill_row(struct chunk *c, size_t i, struct store_slice before,
                   struct buf *scratch) WARN_UNUSED;

#endif
