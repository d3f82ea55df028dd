/* method.h -- the ways to find changes: one table of functions for each.
 *
 * A step (step.h) is the same for all of them: it opens the transaction, sends
 * COPYs, hands out the rows that are new, and moves the position. Which COPYs,
 * what stands in them before a row's fields, whether a row is new and where
 * the position is afterwards is the method's to say. Each is in a file of its
 * own, method_NAME.c; method.c lists them.
 *
 * Hand over. A position belongs to a method (holds). That of method_xmin, a
 * horizon of xmins, is the common one: each method can make such a position
 * its own, and its own one such a position again, in one poll or at once. So
 * any method can follow any other, and none knows of the others.
 *
 * The functions of a method send no statement but where they get a connection,
 * and never change a position's phase (fault.h does). NULL in the table: there
 * is nothing to say. Each method has put_try, holds, begin and advance.
 *
 * SPDX-License-Identifier: MIT */
#ifndef METHOD_H
#define METHOD_H

#include "capture/source.h"

/* What a poll does with the position besides bringing it forward. */
enum method_hand_over {
    METHOD_STAYS,
    METHOD_TAKES, /* it was one of xmins, and will be the method's own */
    METHOD_GIVES, /* it was the method's own, and will be one of xmins: the source goes by another
                   * method now, or by another column */
};

/* What a method keeps while a step is under way. Zeroed is empty. */
struct method_step {
    const struct method *method;
    void *own;               /* of the method, see step_size; owned */
    enum method_hand_over hand_over;
    bool has_new_leaves;     /* all rows of some leaves are read before the poll's own COPY */
    struct xidset delivered; /* the xids of the rows delivered */
    struct xidset there;     /* xids that were there already, which count as delivered */
    bool has_left;           /* rows to the next poll, see horizon.h */
    /* said by <begin>: */
    const struct method_copy *copy; /* the COPY that the poll ends with */
    bool is_recheck;         /* see increment.h */
    bool is_held;            /* the poll cannot stop at a row: all or nothing of it is delivered */
    /* said by <advance>: */
    bool goes_on;            /* the poll was part of something, the next one is due at once */
};

/* Rows that are read regardless of the position: a leaf, or of it the blocks from <block> on and
 * before <end>. */
struct method_extent {
    const struct relation_leaf *leaf;
    uint32_t block, end;
};

enum method_fate {
    METHOD_DELIVER,
    METHOD_SKIP,  /* not new, or not yet */
    METHOD_LEAVE, /* nobody can tell: the next poll will, see horizon.h */
};

/* A line of COPY. */
struct method_row {
    const char *p, *end; /* <p> is moved to the row's fields, or, with deletes, to its key's hash */
    enum method_fate fate;
    uint64_t xid;
    bool is_old;         /* it was there before: OP_READ */
    bool is_tombstone;   /* nothing is known but its key: OP_DELETE */
};

/* A COPY. */
struct method_copy {
    bool reads_all; /* it must not go by an index */

    /* Its text. The leaf of <extent> is NULL where the whole table is read. */
    void (*put)(const struct source *s, const struct method_extent *extent, struct buf *sql);

    /* Reads what stands before a row's fields, and decides about the row. The step remembers what
     * of it was delivered. */
    bool (*take)(const struct source *s, struct method_step *step, struct method_row *row,
                 struct err *e);
};

struct method {
    /* ---- what it is ---- */

    enum config_capture capture;       /* sources that say so go by it; */
    const struct method *without_xmin; /* or by this one, where rows have no xmin. NULL: no such
                                        * table can be captured */
    const char *report;                /* what --check says of it, before the column if there is
                                        * one */
    bool by_index;                     /* sequential scans are off, but in COPYs that read all */

    /* ---- of a source that names it, whatever method holds the position ---- */

    size_t source_size;                /* of <own> of a source: zeroed at first, freed after */
    void (*source_fini)(void *own);    /* this */

    /* A statement, with a semicolon, that is asked with the facts, and its answer. */
    void (*put_facts)(const struct source *s, struct buf *sql);
    bool (*read_facts)(struct source *s, const struct result *r, struct err *e);

    /* The facts failed with <e>: if what the method needs is not there, says so instead. */
    void (*explain)(const struct source *s, struct err *e);

    /* In each transaction: ERR_REFUSED if what it needs is not there, or of no use. */
    bool (*check)(const struct source *s, struct err *e);

    /* In the first transaction, and when there are other leaves: notices of what is wrong, but no
     * reason to stop. */
    bool (*check_health)(struct source *s, struct conn *conn, struct err *e);

    /* Reads nothing, but fails where the COPYs would. */
    void (*put_try)(const struct source *s, struct buf *sql);

    /* What commits are announced as that may concern the source, see listener.h; 0: they are not.
     */
    uint64_t (*announced_as)(const struct source *s);

    /* ---- positions ---- */

    bool (*holds)(const struct position *p);

    /* Makes its own what was just set to the floor of a first read. <before>: the stamps of the
     * position before, if there was one. */
    void (*begin_position)(struct source *s, const struct position_stamps *before);

    /* In each transaction, of a position of its own: if what it goes by was replaced, makes it one
     * of xmins at once. False: changes are lost, *why: how. */
    bool (*check_position)(struct source *s, const char **why);

    /* False: the position must be handed over, by a poll. */
    bool (*stays)(const struct source *s);

    /* The oldest xid that a poll asks for by its age; NULL: it asks for none. */
    uint64_t (*oldest_xid)(const struct position *p);

    /* True while the polls only learn what is there, and nothing is delivered. */
    bool (*is_silent)(const struct position *p);

    /* ---- steps ---- */

    /* True if a poll is to be made though nothing has committed since the newest complete one. */
    bool (*wants_poll)(const struct source *s);

    size_t step_size;                  /* of <own> of a step: zeroed at first, freed after */
    void (*step_fini)(void *own);      /* this */

    struct method_copy range;          /* of the snapshot; put NULL: its polls read the snapshot */
    struct method_copy leaf;           /* one that is new */
    struct method_copy xids;           /* start = "now": adds to <there>, delivers nothing.
                                        * put NULL: its polls do that, while it is silent */

    /* A poll begins, in its transaction. */
    bool (*begin)(struct source *s, struct method_step *step, struct conn *conn, struct err *e);

    /* A poll is complete: the position moves over it. */
    bool (*advance)(struct source *s, struct method_step *step, struct err *e);

    /* The floor may have risen though nothing was read. */
    bool (*rise)(struct source *s, struct err *e);
};

extern const struct method method_xmin, method_increment, method_trigger, method_pages;

/* Finds the method that the source names, which then keeps what it wants. False: out of memory. */
bool method_init(struct source *s) WARN_UNUSED;
void method_fini(struct source *s);

/* The method that a position begins with, of the table that the facts describe. */
const struct method *method_of_table(const struct source *s);

/* The method whose position it is. */
const struct method *method_that_holds(const struct position *p);

/* The same, but of a position of xmins the method that takes it over. */
const struct method *method_of(const struct source *s);

/* Frees what <step> keeps. */
void method_step_fini(struct method_step *step);

/* A poll begins. */
bool method_begin(struct source *s, struct method_step *step, struct conn *conn,
                  struct err *e) WARN_UNUSED;

/* The xids that are there already were all read: the position begins after them. */
bool method_start(struct source *s, struct method_step *step, struct err *e) WARN_UNUSED;

/* Nothing has committed since the newest complete poll, but what had was flushed meanwhile: the
 * floor may rise. *has_risen: the position is another one. */
bool method_rise(struct source *s, bool *has_risen, struct err *e) WARN_UNUSED;

/* ---- for methods ---- */

struct sql_query method_query(const struct source *s);

/* Moves the horizon over a poll that is complete, with the polls before it that ended early. */
bool method_move_horizon(struct source *s, struct method_step *step, struct err *e) WARN_UNUSED;

/* Reads a row's xmin and the tab after it, unless that <is_alone>; to be left if in doubt. */
bool method_take_xmin(const struct source *s, struct method_row *row, bool is_alone,
                      struct err *e) WARN_UNUSED;

/* The same of a range: rows below the floor are old, the others are left to the first poll. */
bool method_take_range(const struct source *s, struct method_step *step, struct method_row *row,
                       struct err *e) WARN_UNUSED;
void method_put_range(const struct source *s, const struct method_extent *extent,
                      struct buf *sql);

/* Of a position of xmins: the xids that are not below the floor. */
bool method_take_xid(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e) WARN_UNUSED;
void method_put_xids(const struct source *s, const struct method_extent *extent, struct buf *sql);

/* The answer cannot be read. */
bool method_fail_row(struct err *e);

#endif
