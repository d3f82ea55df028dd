/* figures.h -- the state of the running program, as others may see it.
 *
 * The host publishes figures on a board some times a second; any thread takes a copy, which is its
 * own. What readers count, how much waits in the queue, who leads, and whether the loop turns
 * is as of the copy, also while the loop does not turn; the rest is as of the newest publication
 * (<at_us>).
 *
 *    host       figures_publish ──▶ board ──▶ figures_copy       whoever serves them
 *    readers    ────────────────────────────▶ (its <refresh>)
 *
 * Wall times are microseconds since 1970, 0: never; <..._ms> is of clock_mono_ms.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FIGURES_H
#define FIGURES_H

#include "capture/config.h"
#include "capture/meter.h"
#include "capture/op.h"
#include "lua/script_figures.h"
#include "state/role.h"

#define FIGURES_NAME 256 /* bytes of a name, with its NUL; longer ones are cut */

enum figures_phase {
    FIGURES_CONNECTS,  /* it has not reached its server yet */
    FIGURES_SNAPSHOT,  /* existing rows are read */
    FIGURES_FOLLOWS,   /* what changes is read */
    FIGURES_DONE       /* of --once: nothing more will come */
};

struct figures_source {
    char name[FIGURES_NAME], table[FIGURES_NAME];
    enum config_capture capture;
    enum figures_phase phase;
    bool is_paused;              /* its changes wait, in the host; or the next is true */
    bool is_paused_by_user;      /* nothing is read until a user resumes it, */
    int64_t user_paused_us;      /* in this run since then */
    int64_t interval_ms;         /* the longest between two polls */
    uint64_t changes[OP_COUNT];  /* delivered, by op */
    int64_t changed_us;          /* when the last one was */
    struct histogram handler_seconds; /* by change: handlers and operators */
    struct histogram delivery_seconds; /* by save: from the read, or the commit, to the save */
    bool is_since_commit;        /* delays are told from the commit on, else from the read */
    int64_t unsaved_us;          /* the oldest change that is delivered and not saved */
    uint64_t unsaved_batches;
    int64_t saved_us;            /* when its position was last saved in this run */
    bool has_kept;               /* it went on from a position of an earlier run */
    uint64_t lsn;                /* of the position, where changes come by the log; else 0 */
    uint64_t xmax;               /* of the position: transactions from this one on are not read */
    uint64_t snapshot_rows;      /* as the next three: of the snapshot, under way or over */
    double snapshot_share;       /* 0 to 1 */
    int64_t snapshot_began_us;
    double snapshot_left;        /* seconds, as far as can be told; below 0: it cannot */
    bool is_reread;              /* rows are being read again, see reread.h; as the next two */
    uint64_t reread_rows;
    double reread_share;         /* 0 to 1 */
    struct meter_values meter;
};

struct figures {
    const char *version, *script; /* borrowed for as long as the board is there */
    int64_t began_us, at_us;
    struct figures_source *sources; /* owned, by the source's number */
    size_t n_sources;
    struct script_figures *script_half; /* a counted reference; NULL: it is not known yet */
    struct role_facts role;      /* as of the copy, too */
    uint64_t lua_bytes, queue_bytes, resident_bytes, state_bytes;
    /* the loop */
    int work;                    /* enum beat_work: what it does */
    size_t work_source;          /* of which source, where that makes sense */
    int64_t work_ms;             /* for how many milliseconds it has been doing that */
    int64_t turned_ms;           /* how many milliseconds ago it was last seen to turn */
};

/* Frees what it owns. */
void figures_fini(struct figures *f);

/* The seconds by which the source is late: the age of the oldest change that is not saved, or how
 * long a poll is overdue, whichever is more. <now_us>, <now_ms>: the time by both clocks. */
double figures_lag(const struct figures_source *s, int64_t now_us, int64_t now_ms);

/* ---- the board ---- */

struct figures_board;

/* Makes what is not as of the publication newer; called on the thread that copies. */
typedef void figures_refresh(void *arg, struct figures *f);

/* <beat> is borrowed; <version> and <script> too. Returns owned, or NULL: out of memory. */
struct figures_board *figures_board_new(const char *version, const char *script,
                                        struct beat *beat);
void figures_board_free(struct figures_board *b);

/* From now on copies are refreshed; NULL: not any more, and no call is under way then. */
void figures_set_refresh(struct figures_board *b, figures_refresh *refresh, void *arg);

/* The host's thread: takes what <f> owns. */
void figures_publish(struct figures_board *b, struct figures *f);

/* Copies the newest figures; the caller owns the copy. Any thread may call it, also at once. False:
 * out of memory, or nothing was published yet. */
bool figures_copy(struct figures_board *b, struct figures *to) WARN_UNUSED;

/* Asks the host's thread, whatever it does, to publish when it comes to that. Any thread. */
void figures_ask(struct figures_board *b);

/* Looks whether the loop has turned. To be called about once a second, by any thread. Returns how
 * many milliseconds ago it was last seen to. */
int64_t figures_watch(struct figures_board *b);

#endif
