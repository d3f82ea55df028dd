/* log_floor.c -- the way back from the log: how the floor of its position rises.
 * SPDX-License-Identifier: MIT */
#include "capture/log_floor.h"

void log_floor_note(struct log_floor *f, uint64_t xmin, uint64_t lsn)
{
    if (f->lsn == 0)
        *f = (struct log_floor){ .xmin = xmin, .lsn = lsn };
}

void log_floor_rise(struct log_floor *f, uint64_t passed, struct horizon *h)
{
    if (f->lsn == 0 || passed < f->lsn)
        return;
    if (f->xmin > h->floor) {
        h->floor = f->xmin;
        xidset_drop_below(&h->seen, h->floor);
    }
    log_floor_forget(f);
}

void log_floor_forget(struct log_floor *f)
{
    *f = (struct log_floor){ 0 };
}
