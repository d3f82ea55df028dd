/* horizon.c -- the capture rule: which row versions are new.
 * SPDX-License-Identifier: MIT */
#include "capture/horizon.h"

#include "base/text.h"

#include <string.h>

bool horizon_parse_snapshot(struct horizon_snapshot *s, const char *text)
{
    const char *p = text;

    s->text = text;
    if (!text_read_u64(&p, NULL, &s->xmin) || *p++ != ':' ||
        !text_read_u64(&p, NULL, &s->xmax) || *p++ != ':' || s->xmin < HORIZON_FIRST_XID)
        return false;
    if (s->xmin <= s->xmax)
        return true;
    s->xmax = s->xmin;
    return *p == '\0';
}

bool horizon_copy(struct horizon *to, const struct horizon *from)
{
    to->floor = from->floor;
    return xidset_copy(&to->seen, &from->seen);
}

void horizon_fini(struct horizon *h)
{
    xidset_fini(&h->seen);
}

uint64_t horizon_widen(uint32_t xmin, uint64_t xmax)
{
    uint64_t xid = (xmax & ~(uint64_t)UINT32_MAX) | xmin;

    if (xmin < HORIZON_FIRST_XID)
        return 0;
    if (xid < xmax)
        return xid;
    return xid > UINT32_MAX ? xid - UINT32_MAX - 1 : 0;
}

void horizon_forget_in_doubt(struct horizon_in_doubt *d)
{
    xidset_fini(&d->before.xids);
    xidset_fini(&d->after.xids);
    *d = (struct horizon_in_doubt){ 0 };
}

bool horizon_copy_in_doubt(struct horizon_in_doubt *to, const struct horizon_in_doubt *from)
{
    to->before.xmax = from->before.xmax;
    to->after.xmax = from->after.xmax;
    memcpy(to->run, from->run, sizeof to->run);
    return xidset_copy(&to->before.xids, &from->before.xids) &&
           xidset_copy(&to->after.xids, &from->after.xids);
}

uint64_t horizon_widen_visible(uint32_t xmin, const struct horizon_snapshot *s,
                               const struct horizon_in_doubt *d, bool *is_doubtful)
{
    uint64_t xid = horizon_widen(xmin, s->xmax);
    /* only where an xid can have been given out before */
    bool was_open = xid > UINT32_MAX && xid >= s->xmin &&
                    (xid >= d->before.xmax || xidset_has(&d->before.xids, xid));
    bool is_alias = was_open && xidset_has(&d->after.xids, xid);

    *is_doubtful = was_open && !is_alias;
    return is_alias ? xid - UINT32_MAX - 1 : xid;
}

bool horizon_is_new(const struct horizon *h, uint64_t xid)
{
    return xid >= h->floor && !xidset_has(&h->seen, xid);
}

uint32_t horizon_floor32(uint64_t floor)
{
    uint32_t low = (uint32_t)floor;

    return low < HORIZON_FIRST_XID ? HORIZON_FIRST_XID : low;
}

bool horizon_advance(struct horizon *h, const struct horizon_snapshot *s,
                     const struct xidset *delivered, uint64_t durable)
{
    uint64_t floor = s->xmin < durable ? s->xmin : durable;
    struct xidset seen = { 0 };
    size_t a, b;

    if (floor < h->floor)
        floor = h->floor;
    a = xidset_lower_bound(&h->seen, floor);
    b = xidset_lower_bound(delivered, floor);
    while (a < h->seen.n || b < delivered->n) {
        uint64_t xid;

        if (b == delivered->n || (a < h->seen.n && h->seen.v[a] < delivered->v[b]))
            xid = h->seen.v[a++];
        else
            xid = delivered->v[b++];
        if (!xidset_add(&seen, xid)) {
            xidset_fini(&seen);
            return false;
        }
    }
    xidset_fini(&h->seen);
    h->seen = seen;
    h->floor = floor;
    return true;
}

void horizon_add_durable(struct horizon_durable *d, uint64_t xmax, uint64_t lsn)
{
    if (xmax == (d->n > 0 ? d->unflushed[d->n - 1].xmax : d->xmax))
        return;
    if (d->n == HORIZON_DURABLE_MAX)
        d->n--; /* the old ones stay, since they are flushed soonest */
    d->unflushed[d->n].xmax = xmax;
    d->unflushed[d->n].lsn = lsn;
    d->n++;
}

void horizon_flush_durable(struct horizon_durable *d, uint64_t flush_lsn)
{
    size_t done = 0;

    while (done < d->n && d->unflushed[done].lsn <= flush_lsn) {
        d->xmax = d->unflushed[done].xmax;
        d->lsn = d->unflushed[done].lsn;
        done++;
    }
    memmove(d->unflushed, d->unflushed + done, (d->n - done) * sizeof d->unflushed[0]);
    d->n -= done;
}
