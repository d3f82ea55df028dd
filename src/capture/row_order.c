/* row_order.c -- in what order a poll reads the rows of one xid.
 * SPDX-License-Identifier: MIT */
#include "capture/row_order.h"

#include <stddef.h>

bool row_order_is_text(uint64_t oid)
{
    return oid == 19 || oid == 25 || oid == 1042 || oid == 1043; /* name, text, char, varchar */
}

bool row_order_is_total(uint64_t oid)
{
    static const uint64_t oids[] = {
        16, 17, 20, 21, 23, 26,       /* bool, bytea, bigint, smallint, integer, oid */
        700, 701, 1700,               /* real, double precision, numeric */
        1082, 1083, 1114, 1184, 1266, 1186, /* dates and times, interval */
        2950, 650, 869, 829, 774,     /* uuid, cidr, inet, macaddr, macaddr8 */
        1560, 1562, 3220, 5069,       /* bit, bit varying, pg_lsn, xid8 */
    };

    for (size_t i = 0; i < sizeof oids / sizeof *oids; i++)
        if (oids[i] == oid)
            return true;
    return row_order_is_text(oid);
}
