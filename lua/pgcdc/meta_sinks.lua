---@meta pgcdc.meta_sinks
-- meta_sinks.lua: the sinks that come with the program, and what reads topics, see meta.lua;
-- nothing loads it.
-- SPDX-License-Identifier: MIT
--
-- luacheck: ignore

---@class pgcdc.sinks
local sinks = {}

---@class pgcdc.rotation
---@field size? string|integer "100M"
---@field every? number seconds

---@class pgcdc.file.spec
---@field path? string|fun(value: any): string "-": standard output; "out/{column}.jsonl"
---@field dir? string where the files are whose path is a function
---@field name? string
---@field rotate? pgcdc.rotation
---@field append? boolean

---One line of JSON for each value.
---@param spec pgcdc.file.spec
---@return pgcdc.sink
function sinks.jsonl(spec) end

---@class pgcdc.csv.spec: pgcdc.file.spec
---@field columns? string[] default: those of the first row
---@field header? boolean
---@field meta? string[] fields of the change in front of the row

---The row of each change as CSV.
---@param spec pgcdc.csv.spec
---@return pgcdc.sink
function sinks.csv(spec) end

---tostring() of each value, a line each.
---@param spec pgcdc.file.spec
---@return pgcdc.sink
function sinks.text(spec) end

---JSON lines into the standard input of a command.
---@param spec {command: string, name?: string}
---@return pgcdc.sink
function sinks.exec(spec) end

---@class pgcdc.postgres.spec
---@field connect? string|table
---@field table string
---@field pk? string|string[]
---@field mode? "mirror"|"append"|"history"
---@field create? boolean make the table where it is missing; true
---@field rename? table<string, string>
---@field existing? "keep"|"remove" what becomes of rows that others wrote before
---@field name? string

---Changes, or rows of one's own, into a table of a Postgres database.
---@param spec pgcdc.postgres.spec
---@return pgcdc.sink
function sinks.postgres(spec) end

---What sinks over the network have in common.
---@class pgcdc.remote.spec
---@field name? string
---@field format? "json"|"debezium"|"cloudevents"|fun(value: any): string?
---@field timeout? number seconds without an answer; 30
---@field flush_rows? integer 100000
---@field flush_bytes? string|integer "64M"
---@field tls? {ca?: string, cert?: string, key?: string} paths
---@field user? string
---@field password? string

---@class pgcdc.kafka.spec: pgcdc.remote.spec
---@field brokers string host:port,host:port
---@field topic? string|fun(value: any): string? "cdc.{schema}.{table}"
---@field key? string|fun(value: any): string? a column, or "none"; default: the key's JSON
---@field deletes? "value"|"tombstone"|"both"
---@field exact? boolean in transactions, with the position; true
---@field headers? boolean|table<string, string>
---@field dead_topic? string of records that Kafka never takes
---@field positions? string a topic; "pgcdc-positions"
---@field shapes? string|false a topic, of the types of rows; "pgcdc-shapes"
---@field config? table<string, string|number|boolean> of librdkafka

---Changes into topics of Kafka.
---@param spec pgcdc.kafka.spec
---@return pgcdc.sink
function sinks.kafka(spec) end

---A source whose changes a sink, or Debezium, wrote into Kafka, for pgcdc.source.
---@class pgcdc.topics.spec
---@field kafka string brokers, "host:port,host:port"
---@field topic string|string[]
---@field name? string the position is kept under it; default: the topics
---@field group? string partitions are shared among workers, see lua/workers.md
---@field start? "snapshot"|"now" from the first record on, or what comes from now on
---@field shapes? string the topic that tells what rows consist of; "pgcdc-shapes"
---@field user? string
---@field password? string
---@field tls? {ca: string?, cert: string?, key: string?}
---@field config? table<string, string|number|boolean> of librdkafka
---@field on_change? fun(change: pgcdc.change)
---@field on_error? "stop"|"skip"|"dead_letter"|pgcdc.policy
---@field dead_letter? true|pgcdc.sink|fun(failed: pgcdc.failed)

---@class pgcdc.http.spec: pgcdc.remote.spec
---@field url string https://host/path
---@field method? "POST"|"PUT"|"PATCH"
---@field body? "one"|"ndjson"|"array" changes in a request
---@field batch? integer how many of them at most; 500
---@field batch_bytes? string|integer "1M"
---@field headers? table<string, string>
---@field in_flight? integer requests at a time; 4
---@field gzip? boolean
---@field sign? string|string[] whsec_..., of Standard Webhooks
---@field idempotency? boolean the header Idempotency-Key
---@field connect_timeout? number seconds; 10
---@field proxy? string|false

---Changes as HTTP requests.
---@param spec pgcdc.http.spec
---@return pgcdc.sink
function sinks.http(spec) end

---@class pgcdc.clickhouse.spec: pgcdc.remote.spec
---@field url string http://host:8123
---@field into? string|fun(change: pgcdc.change): string? the table; "{table}"
---@field database? string
---@field create? boolean make tables and columns that are missing; true
---@field headers? table<string, string>
---@field in_flight? integer requests at a time; 4
---@field gzip? boolean
---@field connect_timeout? number seconds; 10
---@field proxy? string|false

---Rows into tables of ClickHouse.
---@param spec pgcdc.clickhouse.spec
---@return pgcdc.sink
function sinks.clickhouse(spec) end

---@class pgcdc.opensearch.spec: pgcdc.remote.spec
---@field url string https://host:9200
---@field index? string|fun(change: pgcdc.change): string? "{table}"
---@field headers? table<string, string>
---@field in_flight? integer requests at a time; 4
---@field gzip? boolean
---@field connect_timeout? number seconds; 10
---@field proxy? string|false

---Rows as documents into OpenSearch or Elasticsearch.
---@param spec pgcdc.opensearch.spec
---@return pgcdc.sink
function sinks.opensearch(spec) end

---@class pgcdc.redis.spec: pgcdc.remote.spec
---@field connect string redis://host:port/database, rediss://..., unix:/path
---@field mode? "stream"|"json"|"hash"|"publish"
---@field key? string|fun(value: any): string?
---@field maxlen? integer of a stream
---@field expire? integer seconds that a key of json and hash lives
---@field replicas? integer how many must have a batch before it counts

---Changes into Redis.
---@param spec pgcdc.redis.spec
---@return pgcdc.sink
function sinks.redis(spec) end

---@class pgcdc.nats.spec: pgcdc.remote.spec
---@field servers string nats://host:port, tls://..., with commas between
---@field stream string
---@field create? table with subjects, storage, replicas, max_age, max_bytes, duplicates
---@field subject? string|fun(value: any): string?
---@field positions? string
---@field headers? boolean|table<string, string>
---@field window? integer messages that are unanswered; 4000
---@field credentials? string a file, or its text

---Changes into a stream of NATS JetStream.
---@param spec pgcdc.nats.spec
---@return pgcdc.sink
function sinks.nats(spec) end

return sinks
