/* nats.c -- a client of NATS for JetStream, by libnats. Module pgcdc.native.nats:
 *   open{servers=, user=, password=, jwt=, seed=, ca=, cert=, key=, has_tls=, timeout=, window=}
 *     -> client | nil, message. See struct nats_login; seconds, and how many messages may be
 *     unanswered. It connects in the background;
 *   unique() -> text that nobody else has;
 *   decode64(text) -> bytes, or nil if it is no base64.
 * Methods of a client:
 *   wait(seconds, is_for_all) -> true if something has happened, false if not; nil, message,
 *     whether login or privileges are the reason: it is broken. See nats_conn_wait;
 *   is_connected(); max_payload() -> bytes; address() -> URL of the server;
 *   publish(number, lane, id, subject, headers, data) -> true, or false: there are too many
 *     unanswered ones, or one of the same lane (an integer). Id: the Nats-Msg-Id, or nil. Headers:
 *     names and values in turns, as parts of base/packed.h;
 *   add(bytes, at, number, known, tail, limit) -> at, number, why, what: publishes the records in a
 *     chunk of an outbox, from that byte on, whose parts are: id, source, subject, something, data,
 *     headers, id of the message where that is another one. Number: of the record before. Known: a
 *     table from subjects to true or to what is wrong with them. Tail: a table, or nil: a record is
 *     passed over if subject, NUL and id are a key of it. Limit: of bytes. Where it goes on, the
 *     number of the last record that is done, and why it ends: nil: there are no more; "wait": one
 *     was not taken, as of `publish`; "subject", with one that is not known; "refused", with what
 *     is wrong with the last record's subject; "size", with how many bytes the last record has;
 *   read(bytes, at) -> at, lane, id of the message or nil, subject, headers, data of such a record,
 *     after it the next one is; nil instead of the lane: it is left out. Nothing: there is none;
 *   expect(last, origin, own): see nats_conn_expect;
 *   ask(number, subject, headers, data): sends a question;
 *   in_flight() -> how many published messages are unanswered;
 *   answer() -> kind, number, data, status, subject, reply, id of the next answer; nil: none is
 *     there. Kind: "message" of a published one, whose answer is not just that it is stored;
 *     "answer" to a question; number: what it was given. Status: the header of that name; id:
 *     Pgcdc-Id, else Nats-Msg-Id. What a consumer brings has the number -1, and its own subject;
 *   close().
 * Nothing blocks but `wait`.
 *
 * SPDX-License-Identifier: MIT */
#include "base/packed.h"
#include "sinks/module.h"
#include "sinks/nats_conn.h"

#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

#define CLIENT "pgcdc.nats"
#define LONGEST_WAIT 100 /* ms */

/* The parts of a record, from 0. */
enum { ID = 0, SUBJECT = 2, DATA = 4, HEADERS = 5, OWN_ID = 6, PARTS = 7 };

struct client {
    struct nats_conn *conn;          /* NULL: closed */
    struct nats_conn_answer *answer; /* the one that was told last; kept, as a push may throw */
};

/* The connection of the client at 1. */
static struct nats_conn *conn_at(lua_State *L)
{
    struct client *c = luaL_checkudata(L, 1, CLIENT);

    if (c->conn == NULL)
        luaL_error(L, "the connection is closed");
    return c->conn;
}

/* ---- the connection ---- */

/* The text in a field of the table at 1, or NULL. The table keeps it. */
static char *field(lua_State *L, const char *name)
{
    const char *text;

    lua_getfield(L, 1, name);
    text = lua_isstring(L, -1) ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1);
    return (char *)text; /* nobody writes to it */
}

static double number_field(lua_State *L, const char *name)
{
    double value;

    lua_getfield(L, 1, name);
    value = luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return value;
}

static int open_client(lua_State *L)
{
    struct nats_login login;
    struct client *c;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (struct client){ NULL, NULL };
    luaL_setmetatable(L, CLIENT);
    login = (struct nats_login){
        .servers = field(L, "servers"), .user = field(L, "user"),
        .password = field(L, "password"), .jwt = field(L, "jwt"), .seed = field(L, "seed"),
        .ca = field(L, "ca"), .cert = field(L, "cert"), .key = field(L, "key"),
        .timeout_ms = (int)(number_field(L, "timeout") * 1000),
    };
    luaL_argcheck(L, login.servers != NULL, 1, "servers");
    lua_getfield(L, 1, "has_tls");
    login.has_tls = lua_toboolean(L, -1);
    c->conn = nats_conn_new(&login, (unsigned)number_field(L, "window"));
    lua_settop(L, 2);
    if (c->conn != NULL)
        return 1;
    lua_pushnil(L);
    lua_pushliteral(L, "cannot start a thread for the connection");
    return 2;
}

static int close_client(lua_State *L)
{
    struct client *c = luaL_checkudata(L, 1, CLIENT);

    nats_conn_free(c->conn);
    nats_conn_answer_free(c->answer);
    *c = (struct client){ NULL, NULL };
    return 0;
}

static int wait_client(lua_State *L)
{
    struct nats_conn *conn = conn_at(L);
    int ms = (int)(luaL_checknumber(L, 2) * 1000);
    bool has_moved = nats_conn_wait(conn, ms < LONGEST_WAIT ? ms : LONGEST_WAIT,
                                    lua_toboolean(L, 3));
    char failure[600];
    enum nats_conn_state state = nats_conn_state(conn, failure, sizeof failure);

    if (state == NATS_CONN_CONNECTING || state == NATS_CONN_CONNECTED) {
        lua_pushboolean(L, has_moved);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, failure);
    lua_pushboolean(L, state == NATS_CONN_DENIED);
    return 3;
}

static int is_connected(lua_State *L)
{
    char failure[1];

    lua_pushboolean(L, nats_conn_state(conn_at(L), failure, sizeof failure) == NATS_CONN_CONNECTED);
    return 1;
}

static int max_payload(lua_State *L)
{
    lua_pushinteger(L, nats_conn_max_payload(conn_at(L)));
    return 1;
}

static int address(lua_State *L)
{
    lua_pushstring(L, nats_conn_address(conn_at(L)));
    return 1;
}

static int in_flight(lua_State *L)
{
    lua_pushinteger(L, nats_conn_in_flight(conn_at(L)));
    return 1;
}

/* ---- messages ---- */

/* The message whose subject, headers and data are from <index> on. */
static struct nats_item_message check_message(lua_State *L, int index)
{
    struct nats_item_message m = { .id = NULL, .most = SIZE_MAX };

    m.subject = luaL_checklstring(L, index, &m.subject_len);
    m.headers = luaL_checklstring(L, index + 1, &m.headers_len);
    m.data = luaL_checklstring(L, index + 2, &m.len);
    return m;
}

static enum nats_conn_result publish_message(lua_State *L, lua_Integer number, uint64_t lane,
                                             const struct nats_item_message *m)
{
    enum nats_conn_result result = nats_conn_publish(conn_at(L), number, lane, m);

    if (result == NATS_CONN_NO_MEMORY)
        luaL_error(L, "not enough memory");
    return result;
}

static int publish(lua_State *L)
{
    lua_Integer number = luaL_checkinteger(L, 2), lane = luaL_checkinteger(L, 3);
    struct nats_item_message m = check_message(L, 5);

    m.id = luaL_optlstring(L, 4, NULL, &m.id_len);
    lua_pushboolean(L, publish_message(L, number, (uint64_t)lane, &m) == NATS_CONN_TAKEN);
    return 1;
}

static int expect(lua_State *L)
{
    nats_conn_expect(conn_at(L), (uint64_t)luaL_checkinteger(L, 2),
                     (uint64_t)luaL_checkinteger(L, 3), (uint64_t)luaL_checkinteger(L, 4));
    return 0;
}

static int ask(lua_State *L)
{
    struct nats_conn *conn = conn_at(L);
    struct nats_item_message m = check_message(L, 3);

    if (nats_conn_ask(conn, luaL_checkinteger(L, 2), &m) == NATS_CONN_NO_MEMORY)
        return luaL_error(L, "not enough memory");
    return 0;
}

/* ---- records ---- */

/* Takes the record at <at> apart, which packed_read has found. Borrows. */
static void take_record(lua_State *L, const char *at, const struct packed_head *head,
                        struct nats_item_message *m)
{
    const char *end = at + head->len;
    struct packed_part parts[PARTS];
    const struct packed_part *id;

    at += sizeof *head;
    for (size_t i = 0; i < PARTS; i++)
        if ((head->parts & ~PACKED_LEFT_OUT) != PARTS || !packed_take(&at, end, &parts[i]))
            luaL_error(L, "a record is no message");
    if (parts[SUBJECT].text == NULL || parts[DATA].text == NULL || parts[HEADERS].text == NULL)
        luaL_error(L, "a record is no message");
    id = parts[OWN_ID].text != NULL ? &parts[OWN_ID] : &parts[ID];
    *m = (struct nats_item_message){
        .subject = parts[SUBJECT].text, .subject_len = parts[SUBJECT].len,
        .id = id->text, .id_len = id->len,
        .headers = parts[HEADERS].text, .headers_len = parts[HEADERS].len,
        .data = parts[DATA].text, .len = parts[DATA].len, .most = SIZE_MAX,
    };
}

/* The arguments of `add`. */
enum { BYTES = 2, AT, NUMBER, KNOWN, TAIL, LIMIT };

static bool is_in_tail(lua_State *L, const struct nats_item_message *m)
{
    bool is;

    if (m->id == NULL || lua_isnil(L, TAIL))
        return false;
    lua_pushlstring(L, m->subject, m->subject_len);
    lua_pushlstring(L, "", 1);
    lua_pushlstring(L, m->id, m->id_len);
    lua_concat(L, 3);
    is = lua_rawget(L, TAIL) != LUA_TNIL;
    lua_pop(L, 1);
    return is;
}

/* Publishes a record, or passes it over. Returns NULL if that is all; else pushes <what>, and
 * returns why `add` ends. Sets *is_done if it has seen to the record. */
static const char *add_record(lua_State *L, lua_Integer number, const struct packed_head *head,
                              const struct nats_item_message *m, bool *is_done)
{
    lua_pushlstring(L, m->subject, m->subject_len);
    lua_pushvalue(L, -1);
    *is_done = lua_rawget(L, KNOWN) != LUA_TNIL;               /* subject, what is known */
    if (!*is_done) {
        lua_pop(L, 1);
        return "subject";
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        return "refused";
    }
    lua_pop(L, 2);
    if (is_in_tail(L, m))
        return NULL;
    switch (publish_message(L, number, head->lane, m)) {
    case NATS_CONN_TAKEN:
        return NULL;
    case NATS_CONN_TOO_LARGE:
        lua_pushinteger(L, (lua_Integer)nats_conn_too_large(conn_at(L)));
        return "size";
    default:
        *is_done = false;
        lua_pushnil(L);
        return "wait";
    }
}

static int add(lua_State *L)
{
    size_t len, at = (size_t)luaL_checkinteger(L, AT);
    const char *bytes = luaL_checklstring(L, BYTES, &len), *why = NULL;
    lua_Integer number = luaL_checkinteger(L, NUMBER);
    struct packed_head head;
    int top;

    lua_settop(L, LIMIT);
    luaL_checktype(L, KNOWN, LUA_TTABLE);
    luaL_argcheck(L, at <= len, AT, "within the chunk");
    while (why == NULL && packed_read(bytes + at, bytes + len, &head)) {
        struct nats_item_message m;
        bool is_done = true;

        if (!(head.parts & PACKED_LEFT_OUT)) {
            take_record(L, bytes + at, &head, &m);
            m.most = (size_t)luaL_checkinteger(L, LIMIT);
            why = add_record(L, number + 1, &head, &m, &is_done);
            number += is_done;
        }
        at += is_done ? head.len : 0;
    }
    top = lua_gettop(L); /* with <why>, what is there */
    lua_pushinteger(L, (lua_Integer)at);
    lua_pushinteger(L, number);
    if (why == NULL)
        return 2;
    lua_pushstring(L, why);
    lua_pushvalue(L, top);
    return 4;
}

static int read_record(lua_State *L)
{
    size_t len, at = (size_t)luaL_checkinteger(L, 3);
    const char *bytes = luaL_checklstring(L, 2, &len);
    struct nats_item_message m;
    struct packed_head head;

    luaL_argcheck(L, at <= len, 3, "within the chunk");
    if (!packed_read(bytes + at, bytes + len, &head))
        return 0;
    take_record(L, bytes + at, &head, &m);
    lua_pushinteger(L, (lua_Integer)(at + head.len));
    if (head.parts & PACKED_LEFT_OUT)
        return 1;
    lua_pushinteger(L, (lua_Integer)head.lane);
    lua_pushlstring(L, m.id, m.id != NULL ? m.id_len : 0);
    if (m.id == NULL) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    lua_pushlstring(L, m.subject, m.subject_len);
    lua_pushlstring(L, m.headers, m.headers_len);
    lua_pushlstring(L, m.data, m.len);
    return 6;
}

/* ---- answers ---- */

static void push_header(lua_State *L, natsMsg *msg, const char *name)
{
    const char *value = NULL;

    if (natsMsgHeader_Get(msg, name, &value) == NATS_OK && value != NULL)
        lua_pushstring(L, value);
    else
        lua_pushnil(L);
}

static int answer(lua_State *L)
{
    struct nats_conn *conn = conn_at(L);
    struct client *c = lua_touserdata(L, 1);
    natsMsg *msg;

    nats_conn_answer_free(c->answer);
    c->answer = nats_conn_answer(conn);
    if (c->answer == NULL)
        return 0;
    msg = c->answer->msg;
    lua_pushstring(L, c->answer->is_of_message ? "message" : "answer");
    lua_pushinteger(L, c->answer->number);
    lua_pushlstring(L, natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    push_header(L, msg, "Status");
    lua_pushstring(L, natsMsg_GetSubject(msg));
    lua_pushstring(L, natsMsg_GetReply(msg));
    push_header(L, msg, "Pgcdc-Id");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        push_header(L, msg, "Nats-Msg-Id");
    }
    return 7;
}

/* ---- texts ---- */

static int unique(lua_State *L)
{
    natsInbox *inbox = NULL;
    natsStatus s = natsInbox_Create(&inbox);

    if (s != NATS_OK)
        return luaL_error(L, "%s", natsStatus_GetText(s));
    lua_pushstring(L, inbox);
    natsInbox_Destroy(inbox);
    return 1;
}

static int decode64(lua_State *L)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    unsigned bits = 0, n = 0;
    luaL_Buffer to;

    while (len > 0 && text[len - 1] == '=')
        len--;
    luaL_buffinit(L, &to);
    for (size_t i = 0; i < len; i++) {
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;

        if (digit == NULL) {
            lua_pushnil(L);
            return 1;
        }
        bits = bits << 6 | (unsigned)(digit - digits);
        n += 6;
        if (n >= 8) {
            n -= 8;
            luaL_addchar(&to, (char)(bits >> n & 0xff));
        }
    }
    luaL_pushresult(&to);
    return 1;
}

/* ---- the module ---- */

static int open_nats(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "wait", wait_client }, { "is_connected", is_connected }, { "max_payload", max_payload },
        { "address", address }, { "publish", publish }, { "add", add }, { "read", read_record },
        { "expect", expect }, { "ask", ask }, { "in_flight", in_flight }, { "answer", answer },
        { "close", close_client },
        { NULL, NULL },
    };
    static const luaL_Reg functions[] = {
        { "open", open_client }, { "unique", unique }, { "decode64", decode64 }, { NULL, NULL },
    };

    pgcdc_module_class(L, CLIENT, methods, close_client);
    luaL_newlib(L, functions);
    return 1;
}

PGCDC_MODULE("nats", "libnats " NATS_VERSION_STRING, open_nats);
