/* method.c -- unit tests of the table of methods: who holds a position, and who takes it over.
 * SPDX-License-Identifier: MIT */
#include "capture/method.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static const struct method *const all[] = {
    &method_xmin, &method_increment, &method_trigger, &method_pages, &method_logical,
};

#define N_ALL (sizeof all / sizeof *all)

static char column[] = "n";

static void start(struct source *s, struct config *c, enum config_capture capture)
{
    *c = (struct config){ .capture = capture,
                          .column = capture == CONFIG_BY_INCREMENT ? column : NULL };
    source_init(s, c, 0);
    CHECK(method_init(s));
}

static void stop(struct source *s)
{
    method_fini(s);
    source_fini(s);
}

/* What a step asks of each method without looking whether it is there. */
static void test_complete(void)
{
    for (size_t i = 0; i < N_ALL; i++) {
        const struct method *m = all[i];

        CHECK(m->put_try != NULL && m->holds != NULL && m->begin != NULL && m->advance != NULL);
        CHECK((m->range.put == NULL) == (m->range.take == NULL));
        CHECK((m->leaf.put == NULL) == (m->leaf.take == NULL));
        CHECK((m->xids.put == NULL) == (m->xids.take == NULL));
        CHECK((m->put_facts == NULL) == (m->read_facts == NULL));
        CHECK(m->xids.put != NULL || m->is_silent != NULL);
    }
}

static void test_declared(void)
{
    const struct { enum config_capture capture; const struct method *method; } cases[] = {
        { CONFIG_BY_XMIN, &method_xmin },
        { CONFIG_BY_INCREMENT, &method_increment },
        { CONFIG_BY_TRIGGER, &method_trigger },
        { CONFIG_BY_LOGICAL, &method_logical },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        struct source s;

        start(&s, &c, cases[i].capture);
        CHECK(s.declared == cases[i].method && s.declared->report != NULL);
        s.facts.table.has_xmin = true;
        CHECK(method_of_table(&s) == cases[i].method);
        s.facts.table.has_xmin = false;
        CHECK(method_of_table(&s) ==
              (cases[i].method == &method_increment ? &method_pages : cases[i].method));
        stop(&s);
    }
}

/* A position has one holder; one of xmins is taken over by the method that the source names. */
static void test_holders(void)
{
    const enum config_capture captures[] = {
        CONFIG_BY_XMIN, CONFIG_BY_INCREMENT, CONFIG_BY_TRIGGER, CONFIG_BY_LOGICAL,
    };

    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        struct config c;
        struct source s;

        start(&s, &c, captures[i]);
        CHECK(method_that_holds(&s.position) == &method_xmin && method_of(&s) == s.declared);
        s.position.stamps = (struct position_stamps){ true, 5, 6 };
        CHECK(method_that_holds(&s.position) == &method_trigger &&
              method_of(&s) == &method_trigger);
        s.position.stamps = (struct position_stamps){ 0 };
        s.position.logical.lsn = 7;
        CHECK(method_that_holds(&s.position) == &method_logical &&
              method_of(&s) == &method_logical);
        logical_end(&s.position.logical);
        s.position.increment.column = strdup("n");
        CHECK(s.position.increment.column != NULL && method_of(&s) == &method_increment);
        s.position.pages.is_used = true;
        CHECK(method_that_holds(&s.position) == &method_pages && method_of(&s) == &method_pages);
        stop(&s);
    }
}

/* By which a position of one method becomes one of another: in one poll that gives, or at once. */
static void test_hand_over(void)
{
    const char *why = NULL;
    struct config c;
    struct source s;

    start(&s, &c, CONFIG_BY_INCREMENT);
    s.position.increment.column = strdup("n");
    s.position.increment.growth = s.facts.growth = INCREMENT_DATE;
    CHECK(method_increment.stays(&s));
    s.facts.growth = INCREMENT_INTEGER;
    CHECK(!method_increment.stays(&s) && method_increment.wants_poll(&s));
    stop(&s);

    start(&s, &c, CONFIG_BY_XMIN);
    s.position.increment.column = strdup("n");
    CHECK(!method_increment.stays(&s) && method_increment.wants_poll(&s));
    stop(&s);

    start(&s, &c, CONFIG_BY_XMIN);
    s.position.phase = POSITION_POLL;
    s.position.stamps = (struct position_stamps){ true, 5, 6 };
    CHECK(position_add_resume_point(&s.position, &(struct position_last){
        .xid = 7, .is_tombstone = true, .key = "1", .len = 1 }));
    CHECK(method_trigger.check_position(&s, &why));
    CHECK(method_of(&s) == &method_xmin && s.position.n_resume_points == 0);
    stop(&s);
}

const struct unit_case method_cases[] = {
    { "method_complete", test_complete },
    { "method_declared", test_declared },
    { "method_holders", test_holders },
    { "method_hand_over", test_hand_over },
    { NULL, NULL },
};
