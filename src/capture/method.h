/* method.h -- the ways to find changes: one table of functions for each.
 *
 * A step (step.h) is the same for all of them: it opens the transaction, sends
 * COPYs, hands out the rows that are new, and moves the position. The method
 * says which COPYs, what stands in a line before the row's fields, whether the
 * row is new, and where the position is afterwards. Each method is in a file of
 * its own, method_NAME.c; method.c lists them.
 *
 * Hand over. A position belongs to a method (holds). That of method_xmin, a
 * horizon of xmins, is the common one: each method (except method_pages, whose
 * rows have no xmin) can make such a position its own, and make its own one of
 * xmins again, in one poll or at once. So any method can follow any other, and
 * none knows of the others.
 *
 * The functions of a method send statements only if they get a connection, and
 * never change a position's phase (fault.h does). NULL in the table: the method
 * has nothing to do there. Each method has put_try, holds, begin and advance.
 * A function that takes a struct err fills it and returns false if it fails.
 *
 * SPDX-License-Identifier: MIT */
#ifndef METHOD_H
#define METHOD_H

#include "capture/source.h"

/* What a poll does with the position besides bringing it forward. */
enum method_hand_over {
    METHOD_STAYS,
    METHOD_TAKES, /* it is one of xmins, and becomes the method's own */
    METHOD_GIVES, /* it is the method's own, and becomes one of xmins: the source now goes by
                   * another method, or by another column */
};

/* What is kept while a step is under way, for its method. Zeroed is empty. */
struct method_step {
    const struct method *method;
    void *own;               /* of the method, see step_size; owned */
    enum method_hand_over hand_over;
    bool has_new_leaves;     /* all rows of some leaves are read before the poll's own COPY */
    struct xidset delivered; /* the xids of the rows that the step delivers */
    struct xidset there;     /* xids that were there already, which count as delivered */
    bool has_left;           /* rows were left to the next poll, see METHOD_LEAVE */
    bool is_counted;         /* the host has compared the census with its rows: it knows all
                              * deletes */
    /* set by <begin>: */
    const struct method_copy *copy; /* the COPY that the poll ends with; NULL: it reads only
                                     * leaves that are new */
    bool is_recheck;         /* see increment.h */
    bool is_scan;            /* <copy> scans the table for rows whose xmin is not below the floor:
                              * where a tally has found none it need not be sent */
    bool learns_all;         /* the census learns every row that the poll does not bring */
    bool is_held;            /* the poll cannot stop in the middle: all of it is delivered, or
                              * nothing */
    bool is_idle;            /* there is nothing to read: <advance> comes next */
    /* set by <advance>: */
    bool goes_on;            /* the poll was one part of several: the next is due at once */
};

/* Rows that are read whatever the position says: a leaf, or its blocks from <block> on and before
 * <end>. */
struct method_extent {
    const struct relation_leaf *leaf; /* borrowed */
    uint32_t block, end;
};

enum method_fate {
    METHOD_DELIVER,
    METHOD_SKIP,  /* it is not new, or it comes later */
    METHOD_LEAVE, /* nobody can tell yet whether it is new: the next poll will, see horizon.h */
};

/* A line of COPY, and what becomes of it. */
struct method_row {
    const char *p, *end; /* borrowed; <take> moves <p> to the row's fields, before which
                          * sql_put_fingerprint and sql_put_columns may have put some */
    enum method_fate fate;
    uint64_t xid;
    /* set by the reading: */
    int64_t fingerprint;
    uint64_t nth;        /* as in struct chunk_row */
    struct chunk_place place;
    /* set by <take>: */
    bool is_old;         /* it is delivered though it is not new: OP_READ */
    bool is_tombstone;   /* nothing is known but its key: OP_DELETE */
};

/* A COPY. */
struct method_copy {
    bool reads_all; /* sequential scans are on for it, see by_index */

    /* Appends the statement; of a poll with sql_put_fingerprint, in the order of the row type. The
     * leaf of <extent> is NULL if the whole table is read. */
    void (*put)(const struct source *s, const struct method_extent *extent, struct buf *sql);

    /* Reads what stands before a row's fields and sets the fate of <row>. Adds the xids of what is
     * delivered to <step>. */
    bool (*take)(const struct source *s, struct method_step *step, struct method_row *row,
                 struct err *e);
};

struct method {
    /* ---- what it is ---- */

    enum config_capture capture;       /* sources that are declared with this go by the method, */
    const struct method *without_xmin; /* or by this one if the rows of their table have no xmin.
                                        * NULL: no such table can be captured */
    const char *report;                /* what --check says of it, before the name of a column */
    bool by_index;                     /* sequential scans are off, except in COPYs that read all */

    /* ---- of a source that names it, whatever method holds the position ---- */

    size_t source_size;                /* of the source's <own>, which is zeroed at first. (Only
                                        * one of the methods has such.) */
    void (*source_fini)(void *own);    /* frees what <own> holds, but not <own> itself */

    /* <put_facts> appends a statement, with a semicolon, that is run with those for the facts;
     * <read_facts> reads the answer to it, which is of <facts_shape>. */
    const struct result_shape *facts_shape;
    void (*put_facts)(const struct source *s, struct buf *sql);
    bool (*read_facts)(struct source *s, const struct result *r, struct err *e);

    /* Facts or rows could not be read, because of <e>: if the reason is that something is missing
     * that the method needs, replaces <e> by an error that says so. */
    void (*explain)(const struct source *s, struct err *e);

    /* In each transaction: ERR_REFUSED if what the method needs is not there, or is of no use. */
    bool (*check)(const struct source *s, struct err *e);

    /* In the first transaction, and when the number of leaves has changed: adds notices of what is
     * wrong with the table, but is no reason to stop. */
    bool (*check_health)(struct source *s, struct conn *conn, struct err *e);

    /* Appends a statement that reads nothing, but fails where the COPYs would. */
    void (*put_try)(const struct source *s, struct buf *sql);

    /* The number by which commits that may concern the source are announced, see listener.h; 0:
     * they are not announced. */
    uint64_t (*announced_as)(const struct source *s);

    /* ---- positions ---- */

    /* True if <p> is a position of this method. */
    bool (*holds)(const struct position *p);

    /* Makes the fresh position, which was just set to the floor of a first read, the method's own.
     * <before>: the stamps of the position before, if there was one. */
    void (*begin_position)(struct source *s, const struct position_stamps *before);

    /* In each transaction, if the position is the method's own and the source names another one:
     * reads what is needed to hand over. */
    bool (*look_back)(struct source *s, struct conn *conn, struct err *e);

    /* The same for all sources, after <look_back>: if what the position goes by was replaced, makes
     * it one of xmins at once. False: changes are lost, *why: how, borrowed. */
    bool (*check_position)(struct source *s, const char **why);

    /* Another server answers, of another timeline. *outlives: the position holds there as well,
     * since all that it speaks of is there. NULL: it never does. <why>: is filled, where more is
     * known, if it does not. */
    bool (*outlives)(struct source *s, struct conn *conn, bool *outlives, char *why,
                     size_t why_size, struct err *e);

    /* Of a position of its own. False: it must be handed over, by a poll. NULL: it stays. */
    bool (*stays)(const struct source *s);

    /* The oldest xid that a poll asks for by its age; NULL: it asks for none. */
    uint64_t (*oldest_xid)(const struct position *p);

    /* True once each change that is made from now on comes. NULL: that is so when the first read is
     * complete. */
    bool (*is_ready)(const struct source *s);

    /* True while the polls only learn what is there, and nothing is delivered. */
    bool (*is_silent)(const struct position *p);

    /* ---- steps ---- */

    /* A step is to begin, before its transaction: makes what the server must have by then. */
    bool (*prepare)(struct source *s, struct conn *conn, struct err *e);

    /* True if a poll is to be made though nothing has committed since the newest complete one. */
    bool (*wants_poll)(const struct source *s);

    /* When the next step is due at the latest, whatever `interval` says, see clock_mono_ms: for
     * instance since wants_poll comes true then. INT64_MAX, or NULL: as `interval` says. */
    int64_t (*due_ms)(const struct source *s);

    size_t step_size;                  /* of the step's <own>, which is zeroed at first */
    void (*step_fini)(void *own);      /* frees what <own> holds, but not <own> itself */

    struct method_copy range;          /* reads a range of the snapshot. put NULL: the method's
                                        * polls read the snapshot */
    struct method_copy reread;         /* reads a range again, see reread.h: delivers what is not
                                        * new. put NULL: the method cannot */
    /* Of a position that polls: true if such a range can be read now. NULL: always. */
    bool (*may_reread)(const struct source *s);

    /* Why rows cannot be read again, though they could be by this method. NULL: never. */
    const char *(*why_no_reread)(const struct source *s);

    /* In the transaction of such a range: reads what <reread> needs to know. *is_ready false: the
     * range is to be read later. <end_reread>: its step has ended. NULL: nothing. */
    bool (*begin_reread)(struct source *s, const struct method_extent *extent, struct conn *conn,
                         bool *is_ready, struct err *e);
    void (*end_reread)(struct source *s);

    struct method_copy leaf;           /* reads a new leaf. put NULL: the polls do */

    /* True if the leaf is to be read. NULL: if the position does not know it. */
    bool (*is_new_leaf)(const struct source *s, uint32_t oid);

    struct method_copy xids;           /* for start = "now": adds to <there>, delivers nothing.
                                        * put NULL: the polls do that, while is_silent */

    /* A poll begins, in its transaction: sets what <step> needs. */
    bool (*begin)(struct source *s, struct method_step *step, struct conn *conn, struct err *e);

    /* A poll is complete: the position moves over it. */
    bool (*advance)(struct source *s, struct method_step *step, struct err *e);

    /* The floor may have risen though nothing was read: the rest of the position follows. */
    bool (*rise)(struct source *s, struct err *e);

    /* False: the floor must not rise then, since what has committed may be undelivered. NULL: it
     * may. */
    bool (*may_rise)(const struct source *s);
};

extern const struct method method_xmin, method_increment, method_trigger, method_pages,
    method_logical;

/* Sets s->declared to the method that the source names, and makes room for what that keeps of it,
 * s->own. False: out of memory. */
bool method_init(struct source *s) WARN_UNUSED;

/* Frees s->own. */
void method_fini(struct source *s);

/* The method by which a position of the table begins, which the facts describe. */
const struct method *method_of_table(const struct source *s);

/* The method whose position it is. */
const struct method *method_that_holds(const struct position *p);

/* The same, except that a position of xmins is given to the method that takes it over: the one that
 * the source names. */
const struct method *method_of(const struct source *s);

/* True if a poll by <m> reads all rows of the leaf, before its own COPY. */
bool method_is_new_leaf(const struct method *m, const struct source *s, uint32_t oid);

/* Frees what <step> keeps. */
void method_step_fini(struct method_step *step);

/* A poll begins, in the transaction that is open: chooses its method. */
bool method_begin(struct source *s, struct method_step *step, struct conn *conn,
                  struct err *e) WARN_UNUSED;

/* In a transaction that has begun: reads what the method that holds the position needs to hand it
 * over, if the source names another one. */
bool method_look_back(struct source *s, struct conn *conn, struct err *e) WARN_UNUSED;

/* All xids that are there already were read into <there>: the position begins after them. */
bool method_start(struct source *s, struct method_step *step, struct err *e) WARN_UNUSED;

/* Nothing has committed since the newest complete poll, but what had committed may be flushed by
 * now, so that the floor can rise. *has_risen: the position has changed, and should be saved. */
bool method_rise(struct source *s, bool *has_risen, struct err *e) WARN_UNUSED;

/* ---- for methods ---- */

/* What statements need to know of the source. All borrowed from it. */
struct sql_query method_query(const struct source *s);

/* A poll is complete: moves the horizon over it and over the polls before it that ended early. */
bool method_move_horizon(struct source *s, struct method_step *step, struct err *e) WARN_UNUSED;

/* Reads the xmin at the beginning of a line and the tab after it or, if <is_alone>, a line with no
 * other field. Sets the xid, and the fate: METHOD_LEAVE if the xid is in doubt, else
 * METHOD_DELIVER. */
bool method_take_xmin(const struct source *s, struct method_row *row, bool is_alone,
                      struct err *e) WARN_UNUSED;

/* The <take> and <put> of a range, whose lines begin with the xmin: rows below the floor are old,
 * the others are skipped, since the first poll brings them. */
bool method_take_range(const struct source *s, struct method_step *step, struct method_row *row,
                       struct err *e) WARN_UNUSED;
void method_put_range(const struct source *s, const struct method_extent *extent,
                      struct buf *sql);

/* The <take> and <put> of what is read again, for a position of xmins. */
bool method_take_reread(const struct source *s, struct method_step *step, struct method_row *row,
                        struct err *e) WARN_UNUSED;
void method_put_reread(const struct source *s, const struct method_extent *extent,
                       struct buf *sql);

/* The same with another statement for the blocks of a leaf, see sql_range. */
typedef void method_put_blocks(struct buf *b, const struct sql_query *q,
                               const struct relation_leaf *leaf, uint32_t block, uint32_t end);
void method_put_reread_by(method_put_blocks *put, const struct source *s,
                          const struct method_extent *extent, struct buf *sql);

/* The source's condition together with that of what is read again. Owned, or NULL: there is none,
 * or *ok is false, without memory. */
char *method_reread_where(const struct source *s, bool *ok);

/* The <put_try> of a method whose COPYs ask for what all of them do. */
void method_put_try(const struct source *s, struct buf *sql);

/* The <take> and <put> of a leaf, for a position of xmins: rows that are not new are old. */
bool method_take_leaf(const struct source *s, struct method_step *step, struct method_row *row,
                      struct err *e) WARN_UNUSED;
void method_put_leaf(const struct source *s, const struct method_extent *extent, struct buf *sql);

/* The <take> and <put> of <xids>, for a position of xmins: the xids that are not below the
 * floor. */
bool method_take_xid(const struct source *s, struct method_step *step, struct method_row *row,
                     struct err *e) WARN_UNUSED;
void method_put_xids(const struct source *s, const struct method_extent *extent, struct buf *sql);

/* Sets ERR_INTERNAL, for a line that cannot be read. Returns false. */
bool method_fail_row(struct err *e);

#endif
