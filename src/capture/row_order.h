/* row_order.h -- in what order a poll reads the rows of one xid.
 *
 * A poll can stop at any row. What it has delivered of the last xid is kept as a
 * resume point: all rows up to one of them, in an order that is chosen by what
 * the catalog promises of the key.
 *
 * BY_KEY, BY_BYTES. All columns of the key are NOT NULL, a unique index that is
 * valid and has no condition is made of some of them, and the type of each is
 * listed in row_order.c: one whose order is total, and the same on each server
 * and after each upgrade. (For text that is the order of its bytes, by which it
 * is compared, since that of a collation may change, or take two spellings for
 * one.) Then no two rows compare as equal, so one key says what was delivered.
 *
 * BY_FINGERPRINT. In all other cases: a key may be NULL, or several rows may have
 * it; its type may have no order, or take two spellings for one. Then rows are
 * ordered by a 64-bit hash of their text: of the key if that is unique, of all
 * columns that are read otherwise. Two rows with the same hash have the same
 * content, but for a chance of 2^-64, and then nobody can tell them apart: so it
 * is enough to count them. A resume point says that the rows of the xid with a
 * lower hash were delivered, and <n> of those with this hash. The next poll asks
 * for the rows whose hash is not lower, and skips the first <n> with this hash.
 *
 * Nothing is lost and nothing repeated: the hash of a row version does not depend
 * on where it lies (VACUUM FULL and CLUSTER move rows with their xids), nor on
 * the other rows; a version of the xid that was deleted meanwhile takes none of
 * the others with it. If one of several rows with the same content was deleted,
 * the others count as the ones that were delivered. The hash does depend on which
 * columns are read, their types and order: a resume point has their scope, and if
 * that is another one now the rows of the xid all come again.
 *
 * Resume points of several orders hold side by side: each says for itself which
 * rows were delivered.
 *
 * SPDX-License-Identifier: MIT */
#ifndef ROW_ORDER_H
#define ROW_ORDER_H

#include <stdbool.h>
#include <stdint.h>

enum row_order {
    ROW_ORDER_BY_KEY,
    ROW_ORDER_BY_BYTES, /* by the key too, and some of its columns are text */
    ROW_ORDER_BY_FINGERPRINT,
};

/* True if values of the type with this oid are text, and can be ordered by their bytes. */
bool row_order_is_text(uint64_t oid);

/* True if values of the type have a total order, by which equal ones have one text, or are two
 * spellings that no unique index lets in both. */
bool row_order_is_total(uint64_t oid);

#endif
