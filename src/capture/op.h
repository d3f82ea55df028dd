/* op.h -- what happened to a row.
 *
 * SPDX-License-Identifier: MIT */
#ifndef OP_H
#define OP_H

enum op { OP_READ, OP_UPSERT, OP_INSERT, OP_UPDATE, OP_DELETE, OP_COUNT };

#endif
