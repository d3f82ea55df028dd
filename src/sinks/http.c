/* http.c -- requests by libcurl, several at a time. Module pgcdc.native.http:
 *
 *   open{timeout=, connect_timeout=, ca=, cert=, key=, user=, password=, proxy=} -> client.
 *     Seconds; paths; proxy: nil: as the environment says, "": none;
 *   secret(text) -> the bytes of a secret of Standard Webhooks, "whsec_..."; nil: it is none;
 *   sign(bytes, ...) -> base64 of the HMAC-SHA256 of the texts, one after the other;
 *   now() -> seconds since 1970.
 * Methods of a client:
 *   send(tag, method, url, headers, body, gzip): begins a request. Tag: an integer. Headers: a list
 *     of lines. Body: a text; nil: only a connection is made. Gzip: compress it;
 *   send_records(bytes, method, url, headers, id_header, gzip): the same for each record of a text
 *     as base/packed.h has it, whose lane is the tag, and whose parts are: id, something, its url
 *     or nil, body, the id where there is no other. Id_header: the header that gets it, or nil.
 *     Always with the same method, url, headers and id_header, so that little is set for each;
 *   step(seconds) -> true, or false if nothing has come for so long;
 *   done() -> list of tags of requests that were answered with 2xx; `next` does not give them;
 *   next() -> tag, status, body, retry_after, location of a request that was answered (seconds and
 *     an address, or nil); tag, nil, message, is_final of one that was not; nil: there is none. Of
 *     a body at most 64 kB are kept. Is_final: trying again does not help;
 *   cancel(): ends all requests; their answers never come;
 *   close().
 *
 * Nothing blocks but `step`. Redirects are never followed: libcurl would repeat a POST as a GET.
 *
 * SPDX-License-Identifier: MIT */
#include "base/array.h"
#include "base/buf.h"
#include "base/packed.h"
#include "sinks/http_crypto.h"
#include "sinks/http_gzip.h"
#include "sinks/module.h"

#include <curl/curl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <time.h>

#define CLIENT "pgcdc.http"
#define MOST_ANSWER ((size_t)64 << 10)
#define MOST_BODY ((size_t)2 << 30)

/* The parts of a record, from 0. */
enum { ID = 0, URL = 2, BODY = 3, OWN_ID = 4, PARTS = 5 };

struct request {
    CURL *easy;
    bool is_busy, is_over; /* its answer is awaited; is to be told */
    bool is_set;  /* it has what all of send_records have */
    CURLcode result;
    lua_Integer tag;
    struct curl_slist *headers;
    struct curl_slist id; /* a header of its own, before those of all, for send_records */
    struct buf id_line;
    struct buf packed; /* the body that is sent, if it is compressed */
    struct buf answer;
    char error[CURL_ERROR_SIZE];
};

struct client {
    CURLM *multi; /* NULL: closed */
    struct request **requests;
    size_t n_requests, cap_requests;
    long timeout_ms, connect_timeout_ms;
    struct curl_slist *common; /* headers of all, for send_records */
};

static struct client *client_at(lua_State *L)
{
    return luaL_checkudata(L, 1, CLIENT);
}

/* ---- requests ---- */

static size_t take_answer(char *bytes, size_t size, size_t n, void *arg)
{
    struct request *r = arg;
    size_t room = MOST_ANSWER - r->answer.len;

    buf_add(&r->answer, bytes, size * n < room ? size * n : room);
    return size * n;
}

static void rest(struct client *c, struct request *r)
{
    if (r->is_busy)
        curl_multi_remove_handle(c->multi, r->easy);
    r->is_busy = r->is_over = false;
    curl_slist_free_all(r->headers);
    r->headers = NULL;
    buf_clear(&r->answer);
    buf_fini(&r->packed);
    buf_init(&r->packed, MOST_BODY);
}

static void end(struct client *c)
{
    for (size_t i = 0; i < c->n_requests; i++) {
        struct request *r = c->requests[i];

        rest(c, r);
        curl_easy_cleanup(r->easy);
        buf_fini(&r->answer);
        buf_fini(&r->packed);
        buf_fini(&r->id_line);
        free(r);
    }
    if (c->multi != NULL)
        curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->common);
    c->common = NULL;
    free(c->requests);
    c->multi = NULL;
    c->requests = NULL;
    c->n_requests = c->cap_requests = 0;
}

static int close_client(lua_State *L)
{
    end(client_at(L));
    return 0;
}

/* Sets an option to a text in a field of the table at index 1, if it is there. libcurl copies. */
static bool set_text(lua_State *L, CURL *easy, CURLoption option, const char *field)
{
    CURLcode result = CURLE_OK;

    if (lua_getfield(L, 1, field) == LUA_TSTRING)
        result = curl_easy_setopt(easy, option, lua_tostring(L, -1));
    lua_pop(L, 1);
    return result == CURLE_OK;
}

/* What all requests have. The options of the client are at index 1. */
static bool set_up(lua_State *L, CURL *easy)
{
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           set_text(L, easy, CURLOPT_CAINFO, "ca") && set_text(L, easy, CURLOPT_SSLCERT, "cert") &&
           set_text(L, easy, CURLOPT_SSLKEY, "key") &&
           set_text(L, easy, CURLOPT_USERNAME, "user") &&
           set_text(L, easy, CURLOPT_PASSWORD, "password") &&
           set_text(L, easy, CURLOPT_PROXY, "proxy");
}

static bool prepare(struct client *c, struct request *r)
{
    CURL *easy = r->easy;

    return curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, c->timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, c->connect_timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->error) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)r) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, (void *)r) == CURLE_OK;
}

static long milliseconds(lua_State *L, const char *field)
{
    lua_Number seconds;

    lua_getfield(L, 1, field);
    seconds = luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return seconds < 1e6 ? (long)(seconds * 1000) : 1000000000L;
}

static int open_client(lua_State *L)
{
    struct client *c;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    c = lua_newuserdatauv(L, sizeof *c, 2); /* options; bodies */
    *c = (struct client){ .timeout_ms = milliseconds(L, "timeout"),
                          .connect_timeout_ms = milliseconds(L, "connect_timeout") };
    luaL_setmetatable(L, CLIENT);
    c->multi = curl_multi_init();
    if (c->multi == NULL)
        return luaL_error(L, "libcurl: not enough memory");
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1); /* the options, for requests that are made later */
    lua_newtable(L);
    lua_setiuservalue(L, 2, 2); /* number of a request -> its body, which libcurl reads */
    return 1;
}

/* The number of a request that is at rest, from 0; makes one. */
static size_t new_request(lua_State *L, struct client *c)
{
    struct request *r = NULL;
    size_t i = 0;
    bool ok;

    lua_settop(L, 7);
    while (i < c->n_requests && (c->requests[i]->is_busy || c->requests[i]->is_over))
        i++;
    if (i < c->n_requests)
        return i;
    if (!ARRAY_RESERVE(c->requests, c->n_requests, c->cap_requests, 1) ||
        (r = calloc(1, sizeof *r)) == NULL)
        luaL_error(L, "not enough memory");
    buf_init(&r->packed, MOST_BODY);
    buf_init(&r->id_line, MOST_BODY);
    buf_init(&r->answer, MOST_ANSWER);
    r->easy = curl_easy_init();
    c->requests[c->n_requests++] = r;
    lua_getiuservalue(L, 1, 1);
    lua_insert(L, 1); /* where set_up looks for it */
    ok = r->easy != NULL && prepare(c, r) && set_up(L, r->easy);
    lua_remove(L, 1);
    if (!ok)
        luaL_error(L, "libcurl: it does not take the options");
    return i;
}

/* Adds the lines of the list at <index>. */
static void put_headers(lua_State *L, struct curl_slist **to, int index)
{
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i++) {
        struct curl_slist *list;

        lua_rawgeti(L, index, i);
        list = curl_slist_append(*to, luaL_checkstring(L, -1));
        lua_pop(L, 1);
        if (list == NULL)
            luaL_error(L, "not enough memory");
        *to = list;
    }
}

/* Sets what is sent: these bytes of the text at <index>, compressed or as they are. */
static void put_body(lua_State *L, struct request *r, size_t number, int index,
                     const struct packed_part *body, bool is_packed)
{
    if (is_packed && !http_gzip(body->text, body->len, &r->packed))
        luaL_error(L, "the body cannot be compressed: not enough memory");
    if (!is_packed) {
        lua_getiuservalue(L, 1, 2);
        lua_pushvalue(L, index);
        lua_rawseti(L, -2, (lua_Integer)number + 1); /* the table keeps the text */
        lua_pop(L, 1);
    }
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, is_packed ? r->packed.data : body->text);
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)(is_packed ? r->packed.len : body->len));
}

/* libcurl goes to work, if the address is one. */
static void begin(lua_State *L, struct client *c, struct request *r, lua_Integer tag)
{
    r->tag = tag;
    r->error[0] = '\0';
    if (r->result == CURLE_OK && curl_multi_add_handle(c->multi, r->easy) != CURLM_OK)
        luaL_error(L, "libcurl: a request cannot be begun");
    r->is_busy = r->result == CURLE_OK;
    r->is_over = !r->is_busy;
}

static int send_request(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Integer tag = luaL_checkinteger(L, 2);
    const char *method = luaL_checkstring(L, 3), *url = luaL_checkstring(L, 4);
    bool has_body = !lua_isnoneornil(L, 6), is_packed = lua_toboolean(L, 7);
    size_t number, len = 0;
    struct request *r;

    luaL_checktype(L, 5, LUA_TTABLE);
    if (c->multi == NULL)
        return luaL_error(L, "the client is closed");
    number = new_request(L, c);
    r = c->requests[number];
    rest(c, r);
    r->is_set = false;
    put_headers(L, &r->headers, 5);
    if (has_body) {
        const struct packed_part body = { luaL_checklstring(L, 6, &len), (uint32_t)len };

        luaL_argcheck(L, len < MOST_BODY, 6, "it is too long");
        curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
        put_body(L, r, number, 6, &body, is_packed);
    }
    r->result = curl_easy_setopt(r->easy, CURLOPT_URL, url);
    curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(r->easy, CURLOPT_CONNECT_ONLY, has_body ? 0L : 1L);
    begin(L, c, r, tag);
    return 0;
}

/* ---- records ---- */

/* The arguments of send_records. */
enum { BYTES = 2, METHOD, TO, HEADERS, ID_HEADER, GZIP };

/* Sets the header with the id, which has %XX for what may not be in one. */
static void put_id(lua_State *L, struct request *r, const char *header,
                   const struct packed_part *id)
{
    buf_clear(&r->id_line);
    buf_puts(&r->id_line, header);
    buf_puts(&r->id_line, ": ");
    for (uint32_t i = 0; i < id->len; i++) {
        unsigned char c = (unsigned char)id->text[i];

        if (c > 0x20 && c < 0x7f && c != '%')
            buf_putc(&r->id_line, (char)c);
        else
            buf_printf(&r->id_line, "%%%02X", c);
    }
    if (!buf_ok(&r->id_line))
        luaL_error(L, "not enough memory");
    r->id.data = r->id_line.data;
}

/* Sets what all requests of send_records have. libcurl keeps that from one to the next. */
static void set_common(lua_State *L, struct client *c, struct request *r, bool has_id)
{
    r->id.next = c->common;
    r->result = curl_easy_setopt(r->easy, CURLOPT_URL, lua_tostring(L, TO));
    curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, lua_tostring(L, METHOD));
    curl_easy_setopt(r->easy, CURLOPT_CONNECT_ONLY, 0L);
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, has_id ? &r->id : c->common);
    r->is_set = r->result == CURLE_OK;
}

/* Begins the request of the record at <at>. */
static void send_record(lua_State *L, struct client *c, const char *at,
                        const struct packed_head *head, const char *id_header)
{
    const char *end = at + head->len;
    struct packed_part parts[PARTS];
    struct request *r;
    size_t number;

    at += sizeof *head;
    for (size_t i = 0; i < PARTS; i++)
        if (!packed_take(&at, end, &parts[i]))
            luaL_error(L, "a record is no request");
    if (parts[ID].text == NULL)
        parts[ID] = parts[OWN_ID];
    if (parts[BODY].text == NULL || (id_header != NULL && parts[ID].text == NULL))
        luaL_error(L, "a record is no request");
    number = new_request(L, c);
    r = c->requests[number];
    rest(c, r);
    r->result = CURLE_OK;
    if (id_header != NULL)
        put_id(L, r, id_header, &parts[ID]);
    if (!r->is_set)
        set_common(L, c, r, id_header != NULL);
    if (parts[URL].text != NULL) {
        lua_pushlstring(L, parts[URL].text, parts[URL].len);
        r->result = curl_easy_setopt(r->easy, CURLOPT_URL, lua_tostring(L, -1));
        r->is_set = false;
        lua_pop(L, 1);
    }
    put_body(L, r, number, BYTES, &parts[BODY], lua_toboolean(L, GZIP));
    begin(L, c, r, (lua_Integer)head->lane);
}

static int send_records(lua_State *L)
{
    struct client *c = client_at(L);
    size_t len;
    const char *at = luaL_checklstring(L, BYTES, &len), *end = at + len;
    const char *id_header = luaL_optstring(L, ID_HEADER, NULL);
    struct packed_head head;

    for (int i = METHOD; i <= TO; i++)
        luaL_checkstring(L, i);
    luaL_checktype(L, HEADERS, LUA_TTABLE);
    lua_settop(L, GZIP);
    if (c->multi == NULL)
        return luaL_error(L, "the client is closed");
    if (c->common == NULL)
        put_headers(L, &c->common, HEADERS);
    for (; packed_read(at, end, &head); at += head.len)
        send_record(L, c, at, &head, id_header);
    return 0;
}

/* ---- answers ---- */

static void collect(struct client *c)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(c->multi, &left)) != NULL) {
        char *private = NULL;
        void *any;
        struct request *r;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        any = private;
        r = any;
        r->result = message->data.result;
        curl_multi_remove_handle(c->multi, r->easy);
        r->is_busy = false;
        r->is_over = true;
    }
}

static const struct request *answered(const struct client *c)
{
    for (size_t i = 0; i < c->n_requests; i++)
        if (c->requests[i]->is_over)
            return c->requests[i];
    return NULL;
}

static int step(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Number seconds = luaL_checknumber(L, 2);
    int running, ready;
    CURLMcode result;

    if (c->multi == NULL)
        return luaL_error(L, "the client is closed");
    result = curl_multi_perform(c->multi, &running);
    collect(c);
    if (result == CURLM_OK && answered(c) == NULL && running > 0) {
        result = curl_multi_poll(c->multi, NULL, 0, (int)(seconds * 1000), &ready);
        if (result == CURLM_OK)
            result = curl_multi_perform(c->multi, &running);
        collect(c);
    }
    if (result != CURLM_OK)
        return luaL_error(L, "libcurl: %s", curl_multi_strerror(result));
    lua_pushboolean(L, answered(c) != NULL);
    return 1;
}

/* Errors that stay however often it is tried. */
static bool is_final(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL: case CURLE_URL_MALFORMAT: case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM: case CURLE_SSL_CACERT_BADFILE: case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR: case CURLE_SSL_INVALIDCERTSTATUS: case CURLE_LOGIN_DENIED:
        return true;
    default:
        return false;
    }
}

/* Pushes what became of a request. */
static int push_answer(lua_State *L, const struct request *r)
{
    long status = 0;
    curl_off_t seconds = 0;
    const char *location = NULL;

    lua_pushinteger(L, r->tag);
    if (r->result != CURLE_OK) {
        lua_pushnil(L);
        lua_pushstring(L, r->error[0] != '\0' ? r->error : curl_easy_strerror(r->result));
        lua_pushboolean(L, is_final(r->result));
        return 4;
    }
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &seconds);
    curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &location);
    lua_pushinteger(L, status);
    lua_pushlstring(L, r->answer.data, r->answer.len);
    if (seconds > 0)
        lua_pushinteger(L, (lua_Integer)seconds);
    else
        lua_pushnil(L);
    lua_pushstring(L, location);
    return 5;
}

/* Nobody reads the bodies any more whose numbers are at least <from> and less than <to>. */
static void drop_bodies(lua_State *L, size_t from, size_t to)
{
    lua_getiuservalue(L, 1, 2);
    for (; from < to; from++) {
        lua_pushnil(L);
        lua_rawseti(L, -2, (lua_Integer)from + 1);
    }
    lua_pop(L, 1);
}

static int next_answer(lua_State *L)
{
    struct client *c = client_at(L);

    for (size_t i = 0; i < c->n_requests; i++)
        if (c->requests[i]->is_over) {
            int n = push_answer(L, c->requests[i]);

            rest(c, c->requests[i]);
            drop_bodies(L, i, i + 1);
            return n;
        }
    return 0;
}

static int done(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Integer n = 0;

    lua_newtable(L);
    for (size_t i = 0; i < c->n_requests; i++) {
        struct request *r = c->requests[i];
        long status = 0;

        if (r->is_over && r->result == CURLE_OK)
            curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status / 100 != 2)
            continue;
        lua_pushinteger(L, r->tag);
        lua_rawseti(L, -2, ++n);
        rest(c, r);
        drop_bodies(L, i, i + 1);
    }
    return 1;
}

static int cancel(lua_State *L)
{
    struct client *c = client_at(L);

    for (size_t i = 0; i < c->n_requests; i++)
        rest(c, c->requests[i]);
    drop_bodies(L, 0, c->n_requests);
    return 0;
}

/* ---- signatures ---- */

static int secret(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    unsigned char bytes[HTTP_CRYPTO_SECRET];
    size_t n = http_crypto_secret(text, len, bytes);

    if (n == 0)
        return 0;
    lua_pushlstring(L, (const char *)bytes, n);
    return 1;
}

static int sign(lua_State *L)
{
    struct http_crypto_text texts[4];
    size_t n = 0;
    char signature[HTTP_CRYPTO_SIGNATURE + 1];
    struct http_crypto_text key;

    luaL_argcheck(L, lua_gettop(L) <= 5, 6, "too many texts");
    key.bytes = luaL_checklstring(L, 1, &key.len);
    for (int i = 2; i <= lua_gettop(L); i++, n++)
        texts[n].bytes = luaL_checklstring(L, i, &texts[n].len);
    if (!http_crypto_sign(&key, texts, n, signature))
        return luaL_error(L, "the library refuses HMAC-SHA256");
    lua_pushlstring(L, signature, HTTP_CRYPTO_SIGNATURE);
    return 1;
}

static int now(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)time(NULL));
    return 1;
}

/* ---- the module ---- */

static int open_http(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "send", send_request }, { "send_records", send_records }, { "step", step },
        { "done", done }, { "next", next_answer }, { "cancel", cancel },
        { "close", close_client }, { NULL, NULL },
    };
    static const luaL_Reg functions[] = {
        { "open", open_client }, { "secret", secret }, { "sign", sign }, { "now", now },
        { NULL, NULL },
    };

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return luaL_error(L, "libcurl cannot be used");
    pgcdc_module_class(L, CLIENT, methods, close_client);
    luaL_newlib(L, functions);
    return 1;
}

PGCDC_MODULE("http", "libcurl " LIBCURL_VERSION, open_http);
