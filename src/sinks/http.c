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
 *     or nil, body, the id where there is no other. Id_header: the header that gets it, or nil;
 *   step(seconds) -> true, or false if nothing has come for so long;
 *   is_plain(url) -> true if send_records can send to there;
 *   done() -> list of tags of requests that were answered with 2xx; `next` does not give them;
 *   next() -> tag, status, body, retry_after, location of a request that was answered (seconds and
 *     an address, or nil); tag, nil, message, is_final of one that was not; nil: there is none. Of
 *     a body at most 64 kB are kept. Is_final: trying again does not help;
 *   cancel(): ends all requests; their answers never come;
 *   close().
 *
 * Plain HTTP without proxy and login is spoken by http_line.h; for all else libcurl does it all.
 * Nothing blocks but `step`. Redirects are never followed: libcurl would repeat a POST as a GET.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "base/packed.h"
#include "sinks/http_crypto.h"
#include "sinks/http_gzip.h"
#include "sinks/http_request.h"
#include "sinks/module.h"

#include <curl/curl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <time.h>

#define CLIENT "pgcdc.http"
#define MOST_BODY ((size_t)2 << 30)

/* The parts of a record, from 0. */
enum { ID = 0, URL = 2, BODY = 3, OWN_ID = 4, PARTS = 5 };

struct client {
    struct http_request_list all;
    long connect_timeout_ms;
    bool is_direct;                 /* there is neither a proxy nor a login */
    struct http_line_target target; /* of the last request */
    struct buf common;              /* of send_records */
};

static struct client *client_at(lua_State *L)
{
    return luaL_checkudata(L, 1, CLIENT);
}

/* ---- requests ---- */

static size_t take_answer(char *bytes, size_t size, size_t n, void *arg)
{
    struct buf *to = arg;
    size_t room = HTTP_ANSWER_BODY - to->len;

    buf_add(to, bytes, size * n < room ? size * n : room);
    return size * n;
}

static int close_client(lua_State *L)
{
    struct client *c = client_at(L);

    http_request_end(&c->all);
    http_line_forget(&c->target);
    buf_fini(&c->common);
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

static bool prepare(struct client *c, struct http_request *r)
{
    CURL *easy = r->easy;

    return curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, c->all.timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, c->connect_timeout_ms) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->error) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, (void *)&r->line.answer.body) == CURLE_OK &&
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

/* True if requests go straight to the host, by themselves. Options are at index 1. (Whom no_proxy
 * spares is libcurl's to say.) */
static bool is_direct(lua_State *L)
{
    bool has_login, is_told;
    const char *proxy;

    lua_getfield(L, 1, "user");
    has_login = !lua_isnil(L, -1);
    lua_getfield(L, 1, "proxy");
    proxy = lua_tostring(L, -1);
    is_told = proxy == NULL && (getenv("http_proxy") != NULL || getenv("all_proxy") != NULL ||
                                getenv("ALL_PROXY") != NULL);
    lua_pop(L, 2);
    return !has_login && !is_told && (proxy == NULL || *proxy == '\0');
}

static int open_client(lua_State *L)
{
    struct client *c;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    c = lua_newuserdatauv(L, sizeof *c, 2); /* options; bodies */
    *c = (struct client){ .all.timeout_ms = milliseconds(L, "timeout"),
                          .connect_timeout_ms = milliseconds(L, "connect_timeout"),
                          .is_direct = is_direct(L) };
    buf_init(&c->common, MOST_BODY);
    luaL_setmetatable(L, CLIENT);
    c->all.multi = curl_multi_init();
    if (c->all.multi == NULL)
        return luaL_error(L, "libcurl: not enough memory");
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1); /* the options, for requests that are made later */
    lua_newtable(L);
    lua_setiuservalue(L, 2, 2); /* a request -> its body, which is read until it is over */
    return 1;
}

/* A request that is at rest, see http_request_find; makes one. */
static struct http_request *new_request(lua_State *L, struct client *c, const char *authority)
{
    struct http_request *r = http_request_find(&c->all, authority);
    CURL *easy;
    bool ok;

    if (r != NULL) {
        http_request_rest(&c->all, r);
        return r;
    }
    easy = curl_easy_init();
    if (easy == NULL || (r = http_request_add(&c->all, easy)) == NULL) {
        curl_easy_cleanup(easy);
        luaL_error(L, "not enough memory");
    }
    lua_getiuservalue(L, 1, 1);
    lua_insert(L, 1); /* where set_up looks for it */
    ok = prepare(c, r) && set_up(L, r->easy);
    lua_remove(L, 1);
    if (!ok)
        luaL_error(L, "libcurl: it does not take the options");
    return r;
}

/* The client keeps the text on top of the stack, which is popped, as long as the request needs
 * it. */
static void keep_body(lua_State *L, struct http_request *r)
{
    lua_getiuservalue(L, 1, 2);
    lua_insert(L, -2);
    lua_rawsetp(L, -2, r);
    lua_pop(L, 1);
}

/* Adds the lines of the list at <index>. */
static void put_headers(lua_State *L, struct http_request *r, int index)
{
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i++) {
        struct curl_slist *list;

        lua_rawgeti(L, index, i);
        list = curl_slist_append(r->headers, luaL_checkstring(L, -1));
        lua_pop(L, 1);
        if (list == NULL)
            luaL_error(L, "not enough memory");
        r->headers = list;
    }
}

/* Sets what is sent: the text at <index>, compressed or as it is. */
static void put_body(lua_State *L, struct http_request *r, int index, bool is_packed)
{
    size_t len;
    const char *body = luaL_checklstring(L, index, &len);

    if (is_packed && !http_gzip(body, len, &r->packed))
        luaL_error(L, "the body cannot be compressed: not enough memory");
    if (!is_packed) {
        lua_pushvalue(L, index);
        keep_body(L, r);
    }
    r->line.body = is_packed ? r->packed.data : body;
    r->line.body_len = is_packed ? r->packed.len : len;
}

/* Sets the options of libcurl for a request. */
static void set_request(lua_State *L, struct http_request *r, const char *method, const char *url,
                        bool has_body)
{
    put_headers(L, r, 5);
    if (has_body) {
        curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->line.body);
        curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->line.body_len);
    }
    curl_easy_setopt(r->easy, CURLOPT_URL, url);
    curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(r->easy, CURLOPT_CONNECT_ONLY, has_body ? 0L : 1L);
}

/* True if a request to there is for a line. Sets the target. */
static bool is_for_line(lua_State *L, struct client *c, const char *url)
{
    if (c->all.multi == NULL)
        luaL_error(L, "the client is closed");
    if (!http_line_aim(&c->target, url))
        luaL_error(L, "not enough memory");
    return c->is_direct && c->target.is_plain;
}

/* Sends a request whose head is there but for the length of the body. */
static void send_line(lua_State *L, struct client *c, struct http_request *r)
{
    buf_puts(&r->line.head, "Content-Length: ");
    buf_put_u64(&r->line.head, r->line.body_len);
    buf_puts(&r->line.head, "\r\n\r\n");
    if (!buf_ok(&r->line.head))
        luaL_error(L, "not enough memory");
    http_request_begin_line(&c->all, r, c->target.authority);
}

static int send_request(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Integer tag = luaL_checkinteger(L, 2);
    const char *method = luaL_checkstring(L, 3), *url = luaL_checkstring(L, 4);
    bool has_body = !lua_isnoneornil(L, 6), is_packed = lua_toboolean(L, 7);
    bool has_line = is_for_line(L, c, url) && has_body;
    struct http_request *r;

    lua_settop(L, 7);
    luaL_checktype(L, 5, LUA_TTABLE);
    r = new_request(L, c, has_line ? c->target.authority : NULL);
    r->tag = tag;
    if (has_body)
        put_body(L, r, 6, is_packed);
    if (has_line) {
        http_line_put_head(L, &r->line.head, &c->target, method, 5);
        send_line(L, c, r);
        return 0;
    }
    set_request(L, r, method, url, has_body);
    http_request_begin(&c->all, r);
    return 0;
}

/* The arguments of send_records. */
enum { BYTES = 2, METHOD, TO, HEADERS, ID_HEADER, GZIP };

/* Appends the id as a header, with %XX for what may not be in one. */
static void put_id(struct buf *to, const char *header, const struct packed_part *id)
{
    buf_puts(to, header);
    buf_puts(to, ": ");
    for (uint32_t i = 0; i < id->len; i++) {
        unsigned char c = (unsigned char)id->text[i];

        if (c > 0x20 && c < 0x7f && c != '%')
            buf_putc(to, (char)c);
        else
            buf_printf(to, "%%%02X", c);
    }
    buf_puts(to, "\r\n");
}

/* Puts what all requests to the address have in common, which is in c->common once it was made. */
static void put_common(lua_State *L, struct client *c, struct http_request *r)
{
    if (c->common.len == 0)
        http_line_put_head(L, &c->common, &c->target, lua_tostring(L, METHOD), HEADERS);
    buf_add(&r->line.head, c->common.data, c->common.len);
}

/* Begins the request of the record at <at>. */
static void send_record(lua_State *L, struct client *c, const char *at,
                        const struct packed_head *head, const char *id_header)
{
    const char *end = at + head->len, *url;
    struct packed_part parts[PARTS];
    struct http_request *r;

    at += sizeof *head;
    for (size_t i = 0; i < PARTS; i++)
        if (!packed_take(&at, end, &parts[i]))
            luaL_error(L, "a record is no request");
    if (parts[ID].text == NULL)
        parts[ID] = parts[OWN_ID];
    if (parts[BODY].text == NULL || (id_header != NULL && parts[ID].text == NULL))
        luaL_error(L, "a record is no request");
    url = parts[URL].text == NULL ? lua_tostring(L, TO)
                                  : lua_pushlstring(L, parts[URL].text, parts[URL].len);
    if (!is_for_line(L, c, url))
        luaL_error(L, "the address is for libcurl");
    r = new_request(L, c, c->target.authority);
    r->tag = (lua_Integer)head->lane;
    if (lua_toboolean(L, GZIP)) {
        lua_pushlstring(L, parts[BODY].text, parts[BODY].len);
        put_body(L, r, lua_gettop(L), true);
    } else {
        lua_pushvalue(L, BYTES);
        keep_body(L, r);
        r->line.body = parts[BODY].text;
        r->line.body_len = parts[BODY].len;
    }
    if (parts[URL].text == NULL)
        put_common(L, c, r);
    else
        http_line_put_head(L, &r->line.head, &c->target, lua_tostring(L, METHOD), HEADERS);
    if (id_header != NULL)
        put_id(&r->line.head, id_header, &parts[ID]);
    send_line(L, c, r);
    lua_settop(L, GZIP);
}

static int send_records(lua_State *L)
{
    struct client *c = client_at(L);
    size_t len;
    const char *at = luaL_checklstring(L, BYTES, &len), *end = at + len;
    const char *id_header = luaL_optstring(L, ID_HEADER, NULL);
    struct packed_head head;

    luaL_checkstring(L, METHOD);
    luaL_checkstring(L, TO);
    luaL_checktype(L, HEADERS, LUA_TTABLE);
    lua_settop(L, GZIP);
    buf_clear(&c->common);
    for (; packed_read(at, end, &head); at += head.len)
        send_record(L, c, at, &head, id_header);
    return 0;
}

static int is_plain(lua_State *L)
{
    struct client *c = client_at(L);

    lua_pushboolean(L, is_for_line(L, c, luaL_checkstring(L, 2)));
    return 1;
}

/* ---- answers ---- */

static int step(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Number seconds = luaL_checknumber(L, 2);
    CURLMcode result;

    if (c->all.multi == NULL)
        return luaL_error(L, "the client is closed");
    result = http_request_step(&c->all, (int)(seconds * 1000));
    if (result != CURLM_OK)
        return luaL_error(L, "libcurl: %s", curl_multi_strerror(result));
    lua_pushboolean(L, http_request_over(&c->all) != NULL);
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

/* Seconds that the server asks for; 0: none. A line's answer has a number or a date. */
static lua_Integer retry_after(const struct http_request *r)
{
    const struct buf *text = &r->line.answer.retry_after;
    curl_off_t seconds = 0;
    time_t date;

    if (r->how == HTTP_REQUEST_LIBCURL)
        curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &seconds);
    else if (text->len > 0 && text->data[strspn(text->data, "0123456789")] == '\0')
        seconds = (curl_off_t)strtol(text->data, NULL, 10);
    else if (text->len > 0 && (date = curl_getdate(text->data, NULL)) > 0)
        seconds = date - time(NULL);
    return seconds > 0 ? (lua_Integer)seconds : 0;
}

/* Pushes the address that a redirection names, or nil. */
static void push_location(lua_State *L, const struct client *c, const struct http_request *r)
{
    const char *location = NULL;
    char *text = NULL;
    CURLU *u = NULL;

    if (r->how == HTTP_REQUEST_LIBCURL) {
        curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &location);
    } else if (r->line.answer.location.len > 0 && (u = curl_url()) != NULL) {
        if (curl_url_set(u, CURLUPART_URL, c->target.url, 0) == CURLUE_OK &&
            curl_url_set(u, CURLUPART_URL, r->line.answer.location.data, 0) == CURLUE_OK)
            curl_url_get(u, CURLUPART_URL, &text, 0);
        location = text;
    }
    lua_pushstring(L, location);
    curl_free(text);
    curl_url_cleanup(u);
}

static long status_of(const struct http_request *r)
{
    long status = r->line.answer.status;

    if (r->how == HTTP_REQUEST_LIBCURL)
        curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* Pushes what became of a request. */
static int push_answer(lua_State *L, const struct client *c, const struct http_request *r)
{
    lua_Integer seconds;

    lua_pushinteger(L, r->tag);
    if (r->result != CURLE_OK) {
        lua_pushnil(L);
        lua_pushstring(L, r->error[0] != '\0' ? r->error : curl_easy_strerror(r->result));
        lua_pushboolean(L, is_final(r->result));
        return 4;
    }
    seconds = retry_after(r);
    lua_pushinteger(L, status_of(r));
    lua_pushlstring(L, r->line.answer.body.data, r->line.answer.body.len);
    if (seconds > 0)
        lua_pushinteger(L, seconds);
    else
        lua_pushnil(L);
    push_location(L, c, r);
    return 5;
}

/* Its answer was told, or is not asked for any more. */
static void rest(lua_State *L, struct client *c, struct http_request *r)
{
    http_request_rest(&c->all, r);
    lua_pushnil(L);
    keep_body(L, r);
}

static int next_answer(lua_State *L)
{
    struct client *c = client_at(L);
    struct http_request *r = http_request_over(&c->all);
    int n;

    if (r == NULL)
        return 0;
    n = push_answer(L, c, r);
    rest(L, c, r);
    return n;
}

static int done(lua_State *L)
{
    struct client *c = client_at(L);
    lua_Integer n = 0;

    lua_newtable(L);
    for (size_t i = 0; i < c->all.n; i++) {
        struct http_request *r = c->all.v[i];

        if (!r->is_over || r->result != CURLE_OK || status_of(r) / 100 != 2)
            continue;
        lua_pushinteger(L, r->tag);
        lua_rawseti(L, -2, ++n);
        rest(L, c, r);
    }
    return 1;
}

static int cancel(lua_State *L)
{
    struct client *c = client_at(L);

    for (size_t i = 0; i < c->all.n; i++)
        rest(L, c, c->all.v[i]);
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
        { "send", send_request }, { "send_records", send_records }, { "is_plain", is_plain },
        { "step", step }, { "done", done }, { "next", next_answer },
        { "cancel", cancel }, { "close", close_client }, { NULL, NULL },
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
