/* session.c -- unit tests of the settings of sessions, and of what is tried again.
 * SPDX-License-Identifier: MIT */
#include "pg/session.h"

#include "pg/sqlstate.h"
#include "unit.h"

#include <string.h>

static void check_sql(enum session_use use, int version, const char *wanted)
{
    struct buf b;

    buf_init(&b, BUF_SQL_MAX);
    session_put(&b, use, version);
    CHECK(buf_ok(&b) && strcmp(b.data, wanted) == 0);
    buf_fini(&b);
}

static void test_settings(void)
{
    check_sql(SESSION_UNLIMITED, 160004, "SET LOCAL statement_timeout = 0;"
              "SET LOCAL lock_timeout = 0;SET LOCAL idle_in_transaction_session_timeout = 0;"
              "SET LOCAL search_path = '';");
    check_sql(SESSION_UNLIMITED, 170000, "SET LOCAL statement_timeout = 0;"
              "SET LOCAL lock_timeout = 0;SET LOCAL idle_in_transaction_session_timeout = 0;"
              "SET LOCAL transaction_timeout = 0;SET LOCAL search_path = '';");
    check_sql(SESSION_CLIENT, 0, "SET client_encoding = 'UTF8';SET DateStyle = 'ISO, YMD';"
              "SET IntervalStyle = 'postgres';SET TimeZone = 'UTC';SET extra_float_digits = 1;"
              "SET bytea_output = 'hex';SET standard_conforming_strings = on;"
              "SET array_nulls = on;");
    check_sql(SESSION_STREAM, 0, "SET search_path = '';SET client_encoding = 'UTF8';"
              "SET DateStyle = 'ISO, YMD';SET IntervalStyle = 'postgres';SET TimeZone = 'UTC';"
              "SET extra_float_digits = 1;SET bytea_output = 'hex';"
              "SET quote_all_identifiers = off;");
}

static void test_passes(void)
{
    static const char *const both[] = { "08000", "08006", "53300", "57P01", "40001", "57014" };
    static const char *const none[] = { "", "0", "42P01", "23505", "57P04", "28P01" };

    for (size_t i = 0; i < sizeof both / sizeof *both; i++)
        CHECK(sqlstate_passes(both[i], SQLSTATE_SOURCE) &&
              sqlstate_passes(both[i], SQLSTATE_TARGET));
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        CHECK(!sqlstate_passes(none[i], SQLSTATE_SOURCE) &&
              !sqlstate_passes(none[i], SQLSTATE_TARGET));
    CHECK(sqlstate_passes("55000", SQLSTATE_SOURCE) && !sqlstate_passes("55000", SQLSTATE_TARGET));
    CHECK(sqlstate_passes("25P03", SQLSTATE_TARGET) && !sqlstate_passes("25P03", SQLSTATE_SOURCE));
}

const struct unit_case session_cases[] = {
    { "session_settings", test_settings },
    { "session_passes", test_passes },
    { NULL, NULL },
};
