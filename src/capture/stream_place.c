/* stream_place.c -- how far a source is in a transaction of the server's log.
 * SPDX-License-Identifier: MIT */
#include "capture/stream_place.h"

#include "pg/lsn.h"

/* Nobody knows what the log has in the place of what was delivered. */
static bool fail(const struct logical_inside *in, struct err *e)
{
    char commit[LSN_TEXT], lsn[LSN_TEXT];

    return err_set(e, ERR_STATE, "the log does not have the transaction that commits at %s, of "
                   "which the changes up to %s were delivered: is this the server that they came "
                   "from? --reset=SOURCE reads the table again", lsn_write(in->commit, commit),
                   lsn_write(in->lsn, lsn));
}

bool stream_place_begin(struct stream_place *p, uint64_t commit, struct err *e)
{
    p->commit = commit;
    p->n = p->lsn = p->nth = p->n_met = 0;
    return p->before.commit == 0 || commit <= p->before.commit || fail(&p->before, e);
}

bool stream_place_count(struct stream_place *p, uint64_t lsn, bool *is_passed, struct err *e)
{
    const struct logical_inside *in = &p->before;

    p->nth = p->lsn == lsn ? p->nth + 1 : 1;
    p->lsn = lsn;
    p->n++;
    if (in->commit != 0 && in->commit != p->commit)
        return fail(in, e);
    *is_passed = in->commit != 0 && logical_is_inside(in, lsn, p->nth);
    p->n_met += *is_passed && lsn == in->lsn;
    return *is_passed || p->n_met == in->n || fail(in, e);
}

bool stream_place_end(struct stream_place *p, struct err *e)
{
    uint64_t commit = p->commit;

    p->commit = 0;
    if (p->before.commit == 0 || p->before.commit != commit)
        return true;
    if (p->n_met != p->before.n)
        return fail(&p->before, e);
    p->before = (struct logical_inside){ 0 };
    return true;
}

bool stream_place_pass(const struct stream_place *p, uint64_t lsn, struct err *e)
{
    return p->before.commit == 0 || lsn <= p->before.commit || fail(&p->before, e);
}

struct logical_inside stream_place_made(const struct stream_place *p)
{
    if (p->commit == 0 || p->n == 0 ||
        (p->before.commit != 0 && logical_is_inside(&p->before, p->lsn, p->nth)))
        return p->before;
    return (struct logical_inside){ p->commit, p->lsn, p->nth };
}

void stream_place_cut(struct stream_place *p)
{
    p->before = stream_place_made(p);
    p->commit = 0;
}
