---@meta pgcdc
-- meta.lua: the whole public API for editors that know LuaLS; nothing loads it.
-- SPDX-License-Identifier: MIT
-- Point the language server at this folder: "workspace.library": [".../share/pgcdc-lua/lua"].
-- luacheck: ignore

-- ---- values ----

---The null inside a JSON document. SQL's NULL is nil.
---@class pgcdc.null

---A row of a table, by column name: integers, floats, text (numeric too, with all its digits),
---booleans, tables (json, arrays, composites). `pairs` keeps the order of the columns.
---@class pgcdc.row
---@field get fun(self: pgcdc.row, name: string): any nil for a column that is not there
---@field copy fun(self: pgcdc.row): table a plain table with all columns decoded
---@field [string] any

---@alias pgcdc.op "read"|"upsert"|"insert"|"update"|"delete"

---One change of one row. tostring(change) is its JSON, on one line.
---@class pgcdc.change
---@field op pgcdc.op `read`: it was there before
---@field database string not in the JSON
---@field schema string
---@field table string
---@field source string the source's name; not in the JSON
---@field key pgcdc.row
---@field row pgcdc.row? nil where the row was deleted
---@field old pgcdc.row? what the row was before, where it is known
---@field changed string[]? of an update with `old`: the columns that differ; not in the JSON
---@field xid integer|nil the transaction that wrote it, 64 bit; nil of views and foreign tables
---@field seq integer|nil its number, which only grows; nil of changes made by hand without one
---@field ts string when it was read: "2026-11-23T05:04:57.057Z"
---@field unchanged string[]? by the log: columns that the row lacks; not in the JSON
---@field lsn string? by the log: where in it; not in the JSON
---@field commit_ts string? by the log: when the transaction committed; not in the JSON
---@field id string the same at every redelivery of the same row version, and of no other one
---@field get fun(self: pgcdc.change, name: string): any nil for a field that is not there
---@field copy fun(self: pgcdc.change): table a plain table with all columns decoded
---@field [string] any what the script adds

-- ---- streams ----

---A function, or the name of a field: of the row, where the value is a change.
---@alias pgcdc.getter fun(x: any): any|string|number

---@class pgcdc.stream
---@field name string?
local Stream = {}

---Passes values of this stream on to `down` too. Returns `down`.
---@generic T: pgcdc.stream
---@param down T
---@return T
function Stream:connect(down) end

---Undoes `connect`. Returns this stream.
---@param down pgcdc.stream
---@return pgcdc.stream
function Stream:disconnect(down) end

---Disconnects this stream from all others; what it holds is released.
function Stream:destroy() end

---@return pgcdc.stream[]
function Stream:upstreams() end

---@return pgcdc.stream[]
function Stream:downstreams() end

---Passes `value` into this stream.
---@param value any
function Stream:emit(value) end

---f(x, ...) of each value.
---@param f fun(x: any, ...): any
---@return pgcdc.stream
function Stream:map(f, ...) end

---f(x[1], x[2], and so on, ...) of each list.
---@param f fun(...): any
---@return pgcdc.stream
function Stream:starmap(f, ...) end

---Values for which f(x, ...) is true; without f those that are neither nil nor false.
---@param f? fun(x: any, ...): any
---@return pgcdc.stream
function Stream:filter(f, ...) end

---Changes whose row matches, and deletes of those that do not (any more).
---@param f fun(x: any, ...): any
---@return pgcdc.stream
function Stream:only(f, ...) end

---Values for which f(x, ...) is not true.
---@param f fun(x: any, ...): any
---@return pgcdc.stream
function Stream:remove(f, ...) end

---Calls f(x, ...) and passes x on.
---@param f fun(x: any, ...)
---@return pgcdc.stream
function Stream:tap(f, ...) end

---x[k], or a list of such.
---@param k pgcdc.getter|(string|number)[]
---@return pgcdc.stream
function Stream:pluck(k) end

---Each element of each list.
---@return pgcdc.stream
function Stream:flatten() end

---The same as `flatten`.
---@return pgcdc.stream
function Stream:concat() end

---A running fold: f(state, x) gives the new state, and the result with `returns_state`.
---@param f fun(state: any, x: any): any, any
---@param options? {start?: any, returns_state?: boolean, with_state?: boolean, persist?: string}
---@return pgcdc.stream
function Stream:accumulate(f, options) end

---The same as `accumulate`.
---@param f fun(state: any, x: any): any, any
---@param options? {start?: any, returns_state?: boolean, with_state?: boolean, persist?: string}
---@return pgcdc.stream
function Stream:scan(f, options) end

---How often each value has come: a table, for each value.
---@return pgcdc.stream
function Stream:frequencies() end

---The values at positions start, start + step, ... before stop; from 0.
---@param start? integer
---@param stop? integer
---@param step? integer
---@return pgcdc.stream
function Stream:slice(start, stop, step) end

---Lists of n; with `key` one list for each; with `timeout` a short list after so many seconds.
---@param n integer
---@param options? {timeout?: number, key?: pgcdc.getter}
---@return pgcdc.stream
function Stream:partition(n, options) end

---Lists of n values with distinct keys.
---@param n integer
---@param options? {key?: pgcdc.getter, keep?: "first"|"last"}
---@return pgcdc.stream
function Stream:partition_unique(n, options) end

---Overlapping lists of the last n values.
---@param n integer
---@param options? {return_partial?: boolean}
---@return pgcdc.stream
function Stream:sliding_window(n, options) end

---A list of what came in so many seconds.
---@param seconds number
---@return pgcdc.stream
function Stream:timed_window(seconds) end

---The same, of values with distinct keys.
---@param seconds number
---@param options? {key?: pgcdc.getter, keep?: "first"|"last"}
---@return pgcdc.stream
function Stream:timed_window_unique(seconds, options) end

---Each value so many seconds later.
---@param seconds number
---@return pgcdc.stream
function Stream:delay(seconds) end

---Values at least so many seconds apart.
---@param seconds number
---@return pgcdc.stream
function Stream:rate_limit(seconds) end

---Lets up to n values wait while what follows is not ready.
---@param n integer
---@return pgcdc.stream
function Stream:buffer(n) end

---Only the newest value while what follows is not ready.
---@return pgcdc.stream
function Stream:latest() end

---Lists of the first values of all streams, of the second ones, and so on.
---@param ... pgcdc.stream
---@return pgcdc.stream
function Stream:zip(...) end

---Lists of the latest value of each, once all have one; the last argument may be
---{emit_on = stream or list of streams}.
---@param ... pgcdc.stream|{emit_on: pgcdc.stream|pgcdc.stream[]}
---@return pgcdc.stream
function Stream:combine_latest(...) end

---Each value of this stream with the latest of the others; none is left out.
---@param ... pgcdc.stream
---@return pgcdc.stream
function Stream:zip_latest(...) end

---The values of all streams as they come.
---@param ... pgcdc.stream
---@return pgcdc.stream
function Stream:union(...) end

---Drops what has come before.
---@param options? {key?: pgcdc.getter, maxsize?: number}
---@return pgcdc.stream
function Stream:unique(options) end

---@class pgcdc.collector: pgcdc.stream
local Collector = {}

---Passes on a list of what was held.
function Collector:flush() end

---Holds values until `flush` is called.
---@return pgcdc.collector
function Stream:collect() end

---f(x, ...), or sink:write(x), of each value.
---@param target pgcdc.sink|fun(x: any, ...)
---@return pgcdc.stream
function Stream:sink(target, ...) end

---The list of all values, which grows.
---@return any[]
function Stream:sink_to_list() end

---One line for each value.
---@param path string
---@param options? {append?: boolean}
---@return pgcdc.stream
function Stream:sink_to_textfile(path, options) end

---f(x) names one target or a list of them.
---@param f pgcdc.getter
---@param targets table<any, pgcdc.stream|pgcdc.sink|function>
---@param options? {default?: pgcdc.stream|pgcdc.sink|function}
---@return pgcdc.stream
function Stream:route(f, targets, options) end

---Two streams: values for which f(x) is true, and the others.
---@param f fun(x: any): any
---@return pgcdc.stream matching
---@return pgcdc.stream others
function Stream:branch(f) end

---One running state for each key: {key =, state =} on each value, or every so many seconds.
---@param key pgcdc.getter
---@param f fun(state: any, x: any): any
---@param options? {start?: any, every?: number, persist?: string}
---@return pgcdc.stream
function Stream:reduce_by(key, f, options) end

---Changes with only these columns, in this order.
---@param columns string[]|string
---@return pgcdc.stream
function Stream:select(columns) end

---Changes without these columns.
---@param columns string[]|string
---@return pgcdc.stream
function Stream:drop(columns) end

---Changes with columns of other names: {old = "new"}.
---@param names table<string, string>
---@return pgcdc.stream
function Stream:rename(names) end

---Changes with columns whose values are f(change).
---@param functions table<string, fun(change: pgcdc.change): any>
---@return pgcdc.stream
function Stream:add(functions) end

---@alias pgcdc.mask "sha256"|"redact"|{keep: integer}|fun(value: any, change: pgcdc.change): any

---Changes with columns that do not show their values.
---@param columns table<string, pgcdc.mask>
---@param options? {salt?: string}
---@return pgcdc.stream
function Stream:mask(columns, options) end

---Changes as Debezium's value envelope: before, after, source, op, ts_ms.
---@return pgcdc.stream
function Stream:debezium() end

---Changes as CloudEvents 1.0.
---@return pgcdc.stream
function Stream:cloudevents() end

-- ---- sources ----

---@class pgcdc.policy
---@field retry? integer how many more tries after the first
---@field wait? number seconds before the next one; 1
---@field factor? number how much longer each time; 1
---@field otherwise? "stop"|"skip"|"dead_letter" what becomes of a change that failed

---@class pgcdc.source.spec
---@field table string|string[] "orders", "sales.orders", {"sales", "orders"}
---@field pk? string|string[] the columns that identify a row; default: the primary key
---@field interval? number|number[] seconds between polls, or {min, max}; 10
---@field connect? string|table a conninfo string, a URI or libpq's keywords; default: --dsn
---@field name? string the position is kept under it; default: "schema.table"
---@field start? "snapshot"|"now"|integer
---@field columns? string|string[] those to read; default: all
---@field where? string an SQL condition that depends on the row alone
---@field soft_delete? string a column that says that a row counts as deleted
---@field connections? integer connections that the sources of the database share at most; 8
---@field deletes? boolean|{interval: number} finds deleted rows, and tells inserts from updates
---@field old? boolean keeps rows, for change.old and change.changed
---@field skip_unchanged? boolean leaves out updates that change nothing
---@field capture? "xmin"|"increment"|"trigger"|"logical" how changes are found; "xmin"
---@field slot? string with "logical": the replication slot; one for each state file
---@field publication? string with "logical": what has the table; "pgcdc"
---@field toast? "fill"|"leave"|"require" with "logical": long values that an update left alone
---@field max_retained? string|number with "logical": of the log, held by the slot; "16G"
---@field on_full? "drop"|"keep"|"stop" with "logical": of a slot that holds more; "drop"
---@field slot_connect? string|table with "logical": how the slot is reached; connect
---@field failover? boolean with "logical": the slot is to be on standbys too, from 17 on
---@field together? string sources with the same one are read in one snapshot, and saved as one
---@field column? string with "increment": the column whose values grow
---@field lookback? number with "increment": how far below the top polls begin; 1000, or 60 s
---@field recheck? number with "increment": seconds between looks at all rows; 3600, 0: never
---@field hints? "auto"|"wal"|"check"|false the WAL may spare polls a scan; "auto"
---@field quiet? number seconds for which counters that stand still may stand in for a scan; 0
---@field max_load? number share of time that scans of a database may take; 0.1, 1: no limit
---@field parallel? integer workers of the server that may share a scan; 0
---@field readers? integer connections that share the first read; 1 or 2
---@field rls? boolean capture what row-level security shows, instead of refusing
---@field on_change? fun(change: pgcdc.change)
---@field on_error? "stop"|"skip"|"dead_letter"|pgcdc.policy
---@field dead_letter? true|pgcdc.sink|fun(failed: pgcdc.failed) true: the state file keeps it

---What a dead letter is.
---@class pgcdc.failed
---@field change pgcdc.change
---@field error string
---@field traceback string
---@field attempts integer

---Comes after the last change of a poll, or of a range of the snapshot.
---@class pgcdc.batch
---@field source string
---@field count integer

---A transaction is over that changed the source, by the log.
---@class pgcdc.commit
---@field source string
---@field xid integer
---@field lsn string of the commit record
---@field commit_ts string
---@field count integer of its changes of the source

---What pg_logical_emit_message was called with, in a transaction.
---@class pgcdc.message
---@field op "message"
---@field prefix string
---@field content string
---@field xid integer
---@field lsn string
---@field commit_ts string

---The database failed in a way that is tried again.
---@class pgcdc.problem
---@field source string
---@field message string
---@field sqlstate string?
---@field retry_in number seconds

---A stream of changes.
---@class pgcdc.source: pgcdc.stream
local Source = {}

---Calls `handler` on every event. Returns the source.
---@param event "change"|pgcdc.op
---@param handler fun(change: pgcdc.change)
---@return pgcdc.source
---@overload fun(self: self, event: "batch", handler: fun(batch: pgcdc.batch)): self
---@overload fun(self: self, event: "ready", handler: fun(ready: {source: string})): self
---@overload fun(self: self, event: "truncate", handler: fun(truncated: {source: string})): self
---@overload fun(self: self, event: "commit", handler: fun(commit: pgcdc.commit)): self
---@overload fun(self: self, event: "schema", handler: fun(old: table[], new: table[])): self
---@overload fun(self: self, event: "error", handler: fun(problem: pgcdc.problem)): self
function Source:on(event, handler) end

---A stream of messages.
---@class pgcdc.messages: pgcdc.stream
local Messages = {}

---Calls `handler` with every message. Returns the stream.
---@param event "message"
---@param handler fun(message: pgcdc.message)
---@return pgcdc.messages
function Messages:on(event, handler) end

-- ---- sinks ----

---An end of a stream. Only `write` is required; see lua/README.md.
---@class pgcdc.sink
---@field name? string the token is kept under it
---@field write fun(self: pgcdc.sink, value: any)
---@field flush? fun(self: pgcdc.sink, savepoint?: string): any durable when it returns; a token
---@field restore? fun(self: pgcdc.sink, token: any) before the first write
---@field saved? fun(self: pgcdc.sink, token: any)
---@field recall? fun(self: pgcdc.sink): string?
---@field prepares? boolean it stores a short text
---@field identify? fun(self: pgcdc.sink): string which target it is
---@field wants_flush? boolean it asks for a flush in the middle of a batch
---@field close? fun(self: pgcdc.sink)

-- ---- connections ----

---@class pgcdc.connection
local Connection = {}

---The rows of a statement. `...`: the values of $1, $2 and so on.
---@param sql string
---@return table<string, any>[]
function Connection:query(sql, ...) end

---How many rows a statement changed.
---@param sql string
---@return integer
function Connection:exec(sql, ...) end

---Hands a statement to the server without waiting for it: `result` does.
---@param sql string
function Connection:send(sql, ...) end

---The rows of the statement that was sent, and how many it changed.
---@return table<string, any>[] rows
---@return integer changed
function Connection:result() end

---Calls f(db) in a transaction, which is rolled back if f raises an error.
---@generic T
---@param f fun(db: pgcdc.connection): T
---@return T
function Connection:transaction(f) end

function Connection:close() end

-- ---- timers ----

---@class pgcdc.timer
local Timer = {}

function Timer:cancel() end

-- ---- the module ----

---@class pgcdc
---@field version string
---@field null pgcdc.null
---@field required any the default of an option that must be given
---@field args table<string, string> the NAME=VALUE arguments, as they are
---@field sinks pgcdc.sinks
pgcdc = {}

pgcdc.version = ""
pgcdc.null = nil
pgcdc.required = nil
pgcdc.args = {}
pgcdc.sinks = require "pgcdc.meta_sinks"

---Declares a table to watch.
---@param spec pgcdc.source.spec|pgcdc.topics.spec
---@return pgcdc.source
function pgcdc.source(spec) end

---@class pgcdc.change.spec
---@field op pgcdc.op
---@field table string
---@field key? table<string, any> required for a delete
---@field row? table<string, any> required for other ops
---@field old? table<string, any>
---@field schema? string
---@field database? string
---@field source? string
---@field xid? integer
---@field seq? integer
---@field ts? string
---@field id? string default: a new one each time

---Makes a change by hand.
---@param spec pgcdc.change.spec
---@return pgcdc.change
function pgcdc.change(spec) end

---Whether a value is a change.
---@param value any
---@return boolean
function pgcdc.is_change(value) end

---A field that may be absent: nil then.
---@param t table
---@param name string
---@return any
function pgcdc.get(t, name) end

---A plain table with the same fields, decoded, that shares nothing with `t`.
---@param t table
---@return table
function pgcdc.copy(t) end

---Makes a stream by hand; feed it with `emit`.
---@param spec? {name?: string}
---@return pgcdc.stream
function pgcdc.stream(spec) end

---The messages of transactions that have this prefix, or all. They come by the log, with a source
---of the same connect and slot.
---@param spec? {prefix?: string, connect?: string|table, slot?: string}
---@return pgcdc.messages
function pgcdc.messages(spec) end

---Adds an operator to all streams.
---@param name string
---@param f fun(stream: pgcdc.stream, ...): any
function pgcdc.register(name, f) end

---A table of values that JSON can write, saved with the positions.
---@param name string
---@return table<string, any>
function pgcdc.state(name) end

---A connection for queries of one's own; nil: the database of --dsn.
---@param target? string|table
---@return pgcdc.connection
function pgcdc.connect(target) end

---The NAME=VALUE arguments, checked against the defaults.
---@generic T: table
---@param defaults T
---@return T
function pgcdc.options(defaults) end

---Calls `f` every so many seconds.
---@param seconds number
---@param f fun()
---@return pgcdc.timer
function pgcdc.every(seconds, f) end

---Calls `f` once, after so many seconds.
---@param seconds number
---@param f fun()
---@return pgcdc.timer
function pgcdc.after(seconds, f) end

---The partition of a worker, see lua/workers.md; nil where all are one pipeline.
---@type integer?
pgcdc.partition = nil

---Finishes the change in hand, saves, exits.
---@param status? integer
function pgcdc.stop(status) end

---Makes a table a sequence for JSON, so that an empty one is written [].
---@param list? any[]
---@return any[]
function pgcdc.array(list) end

pgcdc.json = {}

---@param value any
---@return string
function pgcdc.json.encode(value) end

---@param text string
---@return any value nil if the text is no JSON
---@return string? problem
function pgcdc.json.decode(text) end

pgcdc.log = {}

---@param message any
---@param fields? table<string, any>
function pgcdc.log.error(message, fields) end

---@param message any
---@param fields? table<string, any>
function pgcdc.log.warn(message, fields) end

---@param message any
---@param fields? table<string, any>
function pgcdc.log.info(message, fields) end

---@param message any
---@param fields? table<string, any>
function pgcdc.log.debug(message, fields) end

return pgcdc
