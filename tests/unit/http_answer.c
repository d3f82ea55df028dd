/* http_answer.c -- unit tests of answers of HTTP: cut at every place, and spoiled.
 * SPDX-License-Identifier: MIT */
#include "sinks/http_answer.h"

#include "unit.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    long status;      /* 0: it is nonsense */
    const char *body;
    bool is_last;
    size_t rest;      /* bytes that are of the next answer */
} answers[] = {
    { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false, 0 },
    { "HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", 200, "", false, 0 },
    { "HTTP/1.1 204 No Content\r\n\r\n", 204, "", false, 0 },
    { "HTTP/1.1 204 No\r\n\r\nHTTP/1.1", 204, "", false, 8 },
    { "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", false, 0 },
    { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
      "HTTP/1.1 201 Made\r\nContent-Length: 1\r\n\r\nx", 201, "x", false, 0 },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A;x=\"y\"\r\n"
      "0123456789\r\n0\r\nTrailer: z\r\n\r\n", 200, "abc0123456789", false, 0 },
    { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0"
      "\r\n\r\n", 200, "a", false, 0 },
    { "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x", true, 0 },
    { "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", 200, "x", false,
      0 },
    { "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 1\r\n\r\nx", 200, "x", true, 0 },
    { "HTTP/1.1 500 Oh\nContent-Length: 2\n\nno", 500, "no", false, 0 },
    { "HTTP/1.1 200 OK\r\nX: a\r\n folded: b\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false, 0 },
    { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false, 0 },
    { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, NULL, false, 0 },
    { "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, NULL, false, 0 },
    { "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", 0, NULL, false, 0 },
    { "HTTP/1.1 200 OK\r\nno header\r\n\r\n", 0, NULL, false, 0 },
    { "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", 0, NULL, false, 0 },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0, NULL, false, 0 },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 0, NULL, false, 0 },
    { "HTTP/2 200\r\n\r\n", 0, NULL, false, 0 },
    { "HTTP/1.1 20 OK\r\n\r\n", 0, NULL, false, 0 },
    { "SSH-2.0-OpenSSH_9.2\r\n", 0, NULL, false, 0 },
    { "\r\n", 0, NULL, false, 0 },
};

/* Gives the text in two parts. Returns how many bytes were not used. */
static size_t take(struct http_answer *a, const char *text, size_t len, size_t cut)
{
    size_t used = http_answer_take(a, text, cut);

    return len - used - http_answer_take(a, text + used, used < cut ? 0 : len - cut);
}

static void test_whole(void)
{
    struct http_answer a;

    http_answer_init(&a);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (size_t len = strlen(answers[i].text), cut = 0; cut <= len; cut++) {
            size_t rest = take(&a, answers[i].text, len, cut);

            CHECK((a.state == HTTP_ANSWER_WHOLE) == (answers[i].status > 0));
            CHECK((a.state == HTTP_ANSWER_NONSENSE) == (answers[i].status == 0));
            if (answers[i].status > 0) {
                EQUAL((uint64_t)a.status, (uint64_t)answers[i].status);
                CHECK(a.is_last == answers[i].is_last && rest == answers[i].rest);
                unit_equal_text(a.body.data, a.body.len, answers[i].body, strlen(answers[i].body),
                                "the body", __FILE__, __LINE__);
            }
            http_answer_clear(&a);
        }
    http_answer_fini(&a);
}

/* What has no length ends with the connection; what has one must be all there. */
static void test_end(void)
{
    static const char open[] = "HTTP/1.1 200 OK\r\n\r\nall of it";
    static const char cut[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour";
    struct http_answer a;

    http_answer_init(&a);
    CHECK(!http_answer_end(&a));
    EQUAL(http_answer_take(&a, open, sizeof open - 1), sizeof open - 1);
    CHECK(a.state == HTTP_ANSWER_BODY_TO_END && a.is_last && http_answer_end(&a));
    CHECK(a.body.len == 9 && memcmp(a.body.data, "all of it", 9) == 0);
    http_answer_clear(&a);
    EQUAL(http_answer_take(&a, cut, sizeof cut - 1), sizeof cut - 1);
    CHECK(!http_answer_end(&a));
    http_answer_fini(&a);
}

static void test_headers(void)
{
    static const char text[] = "HTTP/1.1 503 Busy\r\nRetry-After:  120 \r\nLOCATION: /x?y\r\n"
                               "Retry-After: 7\r\nContent-Length: 0\r\n\r\n";
    struct http_answer a;

    http_answer_init(&a);
    http_answer_take(&a, text, sizeof text - 1);
    CHECK(a.state == HTTP_ANSWER_WHOLE && strcmp(a.retry_after.data, "120") == 0);
    CHECK(strcmp(a.location.data, "/x?y") == 0);
    http_answer_fini(&a);
}

/* A body of any length takes no more memory than what is kept, and headers have an end. */
static void test_large(void)
{
    static char piece[10000];
    struct http_answer a;

    memset(piece, 'x', sizeof piece);
    http_answer_init(&a);
    http_answer_take(&a, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", 46);
    for (int i = 0; i < 10000; i++)
        EQUAL(http_answer_take(&a, piece, sizeof piece), sizeof piece);
    CHECK(a.state == HTTP_ANSWER_WHOLE && a.body.len == HTTP_ANSWER_BODY && buf_ok(&a.body));
    http_answer_clear(&a);
    http_answer_take(&a, "HTTP/1.1 200 OK\r\nX: ", 20);
    for (int i = 0; i < 100 && a.state != HTTP_ANSWER_NONSENSE; i++)
        http_answer_take(&a, piece, sizeof piece);
    CHECK(a.state == HTTP_ANSWER_NONSENSE && a.line.cap < 1 << 20);
    http_answer_fini(&a);
}

/* Whatever comes, it ends, and takes no byte twice. */
static void test_spoiled(void)
{
    uint64_t state = 1;
    struct http_answer a;

    http_answer_init(&a);
    for (int round = 0; round < 20000; round++) {
        const char *from = answers[unit_random(&state) % (sizeof answers / sizeof *answers)].text;
        size_t len = strlen(from);
        char *text = malloc(len);

        CHECK(text != NULL);
        memcpy(text, from, len);
        for (uint64_t n = unit_random(&state) % 4; n > 0; n--)
            text[unit_random(&state) % len] = (char)unit_random(&state);
        CHECK(take(&a, text, len, unit_random(&state) % (len + 1)) <= len);
        CHECK(a.body.len <= len);
        http_answer_clear(&a);
        free(text);
    }
    http_answer_fini(&a);
}

const struct unit_case http_answer_cases[] = {
    { "http_answer_whole", test_whole }, { "http_answer_end", test_end },
    { "http_answer_headers", test_headers }, { "http_answer_large", test_large },
    { "http_answer_spoiled", test_spoiled },
    { NULL, NULL },
};
