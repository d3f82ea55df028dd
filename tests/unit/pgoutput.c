/* pgoutput.c -- unit tests of the messages of pgoutput.
 * SPDX-License-Identifier: MIT
 *
 * Each message is also cut after each byte, and given a byte more: both must be refused. */
#include "pg/pgoutput.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define LSN_1 "\x00\x00\x00\x00\x02\x73\x08\x98"
#define LSN_2 "\x00\x00\x00\x00\x02\x73\x08\xc8"
#define TS "\x00\x03\x00\x00\x00\x00\x00\x07"
#define OID "\x00\x00\x40\x01"

/* In a block of just its size, so that a sanitizer finds what is read beyond it. */
static bool reads(struct pgoutput_message *m, const char *p, size_t len, struct err *e)
{
    static char *block;

    free(block);
    block = malloc(len + (len == 0));
    CHECK(block != NULL);
    memcpy(block, p, len);
    return pgoutput_read(m, block, len, e);
}

static void check_cuts(const char *p, size_t len)
{
    struct pgoutput_message m;
    char longer[256];
    struct err e;

    for (size_t n = 0; n < len; n++) {
        CHECK(!reads(&m, p, n, &e));
        CHECK(e.code == ERR_ANSWER);
    }
    CHECK(len < sizeof longer);
    memcpy(longer, p, len);
    longer[len] = '\0';
    CHECK(!reads(&m, longer, len + 1, &e));
    CHECK(e.code == ERR_ANSWER);
}

#define READ(m, text) do { \
        struct err e_; \
        check_cuts("" text, sizeof(text) - 1); \
        CHECK(reads((m), "" text, sizeof(text) - 1, &e_)); } while (0)

static void refused(const char *p, size_t len, const char *why)
{
    struct pgoutput_message m;
    struct err e;

    CHECK(!reads(&m, p, len, &e));
    CHECK(e.code == ERR_ANSWER);
    EQUAL_TEXT(strstr(e.msg, why) != NULL ? "" : e.msg, strstr(e.msg, why) != NULL ? 0
               : strlen(e.msg), "");
}

#define REFUSED(text, why) refused("" text, sizeof(text) - 1, why)

static void test_transaction(void)
{
    struct pgoutput_message m;

    READ(&m, "B" LSN_1 TS "\x00\x00\x02\xf0");
    CHECK(m.kind == PGOUTPUT_BEGIN);
    EQUAL(m.begin.commit_lsn, 0x2730898);
    EQUAL(m.begin.xid, 752);
    EQUAL((uint64_t)m.begin.ts, 0x0003000000000007u);
    READ(&m, "C\0" LSN_1 LSN_2 TS);
    CHECK(m.kind == PGOUTPUT_COMMIT);
    EQUAL(m.commit.commit_lsn, 0x2730898);
    EQUAL(m.commit.end_lsn, 0x27308c8);
    READ(&m, "O" LSN_1 "elsewhere\0");
    CHECK(m.kind == PGOUTPUT_ORIGIN);
    READ(&m, "Y" OID "public\0colour\0");
    CHECK(m.kind == PGOUTPUT_TYPE);
}

static void test_relation(void)
{
    struct pgoutput_message m;
    struct pgoutput_column column;

    READ(&m, "R" OID "public\0orders\0d\0\2"
         "\1id\0\0\0\0\x17\xff\xff\xff\xff" "\0note\0\0\0\0\x19\0\0\0\4");
    CHECK(m.kind == PGOUTPUT_RELATION);
    EQUAL(m.relation.oid, 0x4001);
    CHECK(strcmp(m.relation.schema, "public") == 0 && strcmp(m.relation.name, "orders") == 0);
    CHECK(m.relation.identity == 'd');
    CHECK(pgoutput_next_column(&m.relation.columns, &column));
    CHECK(column.is_key && strcmp(column.name, "id") == 0);
    EQUAL(column.type, 23);
    CHECK(column.modifier == -1);
    CHECK(pgoutput_next_column(&m.relation.columns, &column));
    CHECK(!column.is_key && strcmp(column.name, "note") == 0 && column.modifier == 4);
    CHECK(!pgoutput_next_column(&m.relation.columns, &column));
    READ(&m, "R" OID "\0t\0n\0\0");
    CHECK(*m.relation.schema == '\0' && !pgoutput_next_column(&m.relation.columns, &column));
}

static void test_rows(void)
{
    struct pgoutput_message m;
    struct pgoutput_field f;

    READ(&m, "I" OID "N\0\4" "t\0\0\0\1" "7" "n" "u" "t\0\0\0\0");
    CHECK(m.kind == PGOUTPUT_INSERT && m.row.has_old == PGOUTPUT_NO_OLD);
    EQUAL(m.row.relation, 0x4001);
    CHECK(pgoutput_next_field(&m.row.new, &f) && f.value == PGOUTPUT_TEXT);
    EQUAL_TEXT(f.p, f.len, "7");
    CHECK(pgoutput_next_field(&m.row.new, &f) && f.value == PGOUTPUT_NULL);
    CHECK(pgoutput_next_field(&m.row.new, &f) && f.value == PGOUTPUT_UNCHANGED);
    CHECK(pgoutput_next_field(&m.row.new, &f) && f.value == PGOUTPUT_TEXT && f.len == 0);
    CHECK(!pgoutput_next_field(&m.row.new, &f));

    READ(&m, "U" OID "N\0\1" "t\0\0\0\1" "8");
    CHECK(m.kind == PGOUTPUT_UPDATE && m.row.has_old == PGOUTPUT_NO_OLD && m.row.new.n == 1);
    READ(&m, "U" OID "K\0\1" "t\0\0\0\1" "7" "N\0\1" "t\0\0\0\1" "8");
    CHECK(m.row.has_old == PGOUTPUT_OLD_KEY);
    CHECK(pgoutput_next_field(&m.row.old, &f));
    EQUAL_TEXT(f.p, f.len, "7");
    CHECK(pgoutput_next_field(&m.row.new, &f));
    EQUAL_TEXT(f.p, f.len, "8");
    READ(&m, "U" OID "O\0\1" "n" "N\0\1" "n");
    CHECK(m.row.has_old == PGOUTPUT_OLD_ROW);
    READ(&m, "D" OID "K\0\1" "t\0\0\0\1" "7");
    CHECK(m.kind == PGOUTPUT_DELETE && m.row.has_old == PGOUTPUT_OLD_KEY && m.row.old.n == 1);
    READ(&m, "D" OID "O\0\0");
    CHECK(m.row.has_old == PGOUTPUT_OLD_ROW);
}

static void test_others(void)
{
    struct pgoutput_message m;

    READ(&m, "T\0\0\0\2\3" "\0\0\0\1" OID);
    CHECK(m.kind == PGOUTPUT_TRUNCATE && m.truncate.cascades && m.truncate.restarts);
    EQUAL(m.truncate.n, 2);
    EQUAL(pgoutput_truncated(&m.truncate, 0), 1);
    EQUAL(pgoutput_truncated(&m.truncate, 1), 0x4001);
    READ(&m, "M\1" LSN_1 "audit\0" "\0\0\0\3" "a\0b");
    CHECK(m.kind == PGOUTPUT_MESSAGE && m.logical.is_transactional);
    EQUAL(m.logical.lsn, 0x2730898);
    CHECK(strcmp(m.logical.prefix, "audit") == 0);
    EQUAL_TEXT(m.logical.p, m.logical.len, "a\0b");
}

static void test_nonsense(void)
{
    REFUSED("", "is empty");
    REFUSED("Z", "of the unknown kind 0x5a");
    REFUSED("\xff", "of the unknown kind 0xff");
    REFUSED("b" LSN_1 LSN_2 TS TS, "of the unknown kind 0x62"); /* of protocol version 3 */
    REFUSED("I" OID "K\0\0", "Insert of 8 bytes, cannot be read");
    REFUSED("I" OID "K\0\0N\0\0", "Insert of 11 bytes, cannot be read");
    REFUSED("I" OID "X\0\0", "Insert of 8 bytes");
    REFUSED("D" OID "N\0\0", "Delete of 8 bytes");
    REFUSED("D" OID "K\0\0N\0\0", "Delete of 11 bytes");
    REFUSED("U" OID "K\0\0K\0\0", "Update of 11 bytes");
    REFUSED("I" OID "N\0\1b\0\0\0\1x", "Insert of 14 bytes"); /* binary */
    REFUSED("I" OID "N\0\1t\xff\xff\xff\xffx", "Insert of 14 bytes");
    REFUSED("I" OID "N\xff\xffnn", "Insert of 10 bytes");
    REFUSED("T\xff\xff\xff\xff\0", "Truncate of 6 bytes");
    REFUSED("R" OID "public\0orders", "Relation of 18 bytes");
    REFUSED("C\0" LSN_1 LSN_2 TS "!", "Commit of 27 bytes, has 1 too many");
}

const struct unit_case pgoutput_cases[] = {
    { "pgoutput_transaction", test_transaction },
    { "pgoutput_relation", test_relation },
    { "pgoutput_rows", test_rows },
    { "pgoutput_others", test_others },
    { "pgoutput_nonsense", test_nonsense },
    { NULL, NULL },
};
