/* horizon.c -- the capture rule: which row versions are new.
 * SPDX-License-Identifier: MIT */
#include "capture/horizon.h"

#include "base/text.h"

#include <string.h>

bool snapshot_parse(struct snapshot *s, const char *text)
{
    const char *p = text;

    s->text = text;
    return text_read_u64(&p, NULL, &s->xmin) && *p++ == ':' &&
           text_read_u64(&p, NULL, &s->xmax) && *p == ':' && s->xmin >= XID_FIRST_NORMAL &&
           s->xmin <= s->xmax;
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

    if (xmin < XID_FIRST_NORMAL)
        return 0;
    if (xid < xmax)
        return xid;
    return xid > UINT32_MAX ? xid - UINT32_MAX - 1 : 0;
}

void in_doubt_forget(struct in_doubt *d)
{
    xidset_fini(&d->open);
    xidset_fini(&d->still);
    *d = (struct in_doubt){ 0 };
}

uint64_t horizon_widen_visible(uint32_t xmin, const struct snapshot *s, const struct in_doubt *d,
                               bool *is_doubtful)
{
    uint64_t xid = horizon_widen(xmin, s->xmax);
    /* only where an xid can have been given out before */
    bool was_open = xid > UINT32_MAX && xid >= s->xmin &&
                    (xid >= d->upto || xidset_has(&d->open, xid));
    bool is_alias = was_open && xidset_has(&d->still, xid);

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

    return low < XID_FIRST_NORMAL ? XID_FIRST_NORMAL : low;
}

bool horizon_advance(struct horizon *h, const struct snapshot *s, const struct xidset *delivered,
                     uint64_t durable)
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

void durable_note(struct durable *d, uint64_t xmax, uint64_t lsn)
{
    if (xmax == (d->n > 0 ? d->notes[d->n - 1].xmax : d->xmax))
        return;
    if (d->n == DURABLE_NOTES) /* keep the old ones, they are flushed soonest, and the newest */
        d->n--;
    d->notes[d->n].xmax = xmax;
    d->notes[d->n].lsn = lsn;
    d->n++;
}

void durable_flushed(struct durable *d, uint64_t flush_lsn)
{
    size_t done = 0;

    while (done < d->n && d->notes[done].lsn <= flush_lsn) {
        d->xmax = d->notes[done].xmax;
        d->lsn = d->notes[done].lsn;
        done++;
    }
    memmove(d->notes, d->notes + done, (d->n - done) * sizeof d->notes[0]);
    d->n -= done;
}

