-- manuals_test.lua: what the manuals show works, what they name is there, what they link to too.
-- SPDX-License-Identifier: MIT
--
-- Every block of code of every page runs here, in the order of the page, against a server with two
-- empty databases, shop and reports, in an empty folder, with the program and psql in PATH and the
-- server in PGHOST: as somebody would who follows the page. What is shown as output is held against
-- what comes, but for times, transaction ids and the like. Languages of blocks:
--
--    sql        runs in shop (db=reports: there)
--    lua        is kept under the name in its first comment, `-- NAME.lua:`, and run with --once
--    sh         commands; they must succeed
--    console    commands, each after a "$ ", with their output
--    text       output of the block before (`output`), or of what runs on (`goes-on`)
--
-- Other languages are for src/README.md only, and do not run.
--
-- Words for tests (support/manual.lua has their form):
--
--    needs=NAME,...   makes these tables first, if the page has not
--    server=redis     a server of its own, whose address is $REDIS_URL; without one it does not run
--    server=http      the same, $HOOK_URL; server=clickhouse: $CLICKHOUSE_URL; nats: $NATS_URL;
--                     kafka: $KAFKA_BROKERS, a mock
--    fragment         a piece of Lua that a script of the table orders may hold
--    later            a script that a later block runs
--    status=N         what the last command ends with
--    runs-on, stop    the end of the last command is not waited for; what runs on is ended
--    any-order        of the lines of output
--    folded           a line that begins with three blanks is the rest of the one above
--    fresh            both databases and the folder are empty again
--    skip WHY

local by_log = require "by_log"
local clickhouse = require "clickhouse"
local cluster = require "cluster"
local files = require "files"
local kafka = require "kafka"
local lu = require "luaunit"
local manual = require "manual"
local native = require "native"
local program = require "program"
local nats = require "nats"
local receiver = require "receiver"
local redis = require "redis"
local scope = require "scope"
local server = require "server"
local wait = require "wait"

local TestManuals = {}

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."
local top = native.realpath(here .. "/..")
while not files.read(top .. "/Makefile") do
   top = native.realpath(top .. "/..")
end

local pages = {
   "README.md", "lua/README.md", "lua/captures.md", "lua/operate.md", "lua/standby.md",
   "lua/workers.md", "lua/scaling.md", "lua/testing.md", "scripts/README.md", "src/README.md",
   "src/pgcdc-lua.1",
}

local function read(path)
   return manual.read(top .. "/" .. path)
end

-- Tables that pages work on, by name. The table orders is the one that the README makes.
local tables = {
   customers = [[
      CREATE TABLE customers (id bigint PRIMARY KEY, name text, email text, vip boolean);
      INSERT INTO customers VALUES (1, 'Ada', 'ada@example.org', true),
         (2, 'Bob', 'bob@example.org', false)]],
   events = [[
      CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text,
         created_at timestamptz NOT NULL DEFAULT now());
      INSERT INTO events (what) VALUES ('login'), ('logout')]],
}

function tables.orders()
   for _, block in ipairs(read "README.md".blocks) do
      if block.language == "sql" and block.text:find "CREATE TABLE orders" then
         return block.text
      end
   end
   error "the README does not make the table orders"
end

-- Running -----------------------------------------------------------------------------------------

local main -- the cluster

function TestManuals.setupClass()
   main = cluster.new { name = "manuals", conf = by_log.conf }
end

local Run = {}
Run.__index = Run

local function new_run(page)
   local bin = program.binary():match "^(.*)/[^/]*$"
   local psql = assert(server.client "psql", "no psql"):match "^(.*)/[^/]*$"
   local self = setmetatable({ page = page, made = {} }, Run)
   self.env = {
      PATH = table.concat({ bin, psql, os.getenv "PATH" }, ":"), XDG_STATE_HOME = false,
      PGHOST = server.socket_dir(), PGPORT = tostring(main.port), PGUSER = "postgres",
      PGDATABASE = "shop", NO_COLOR = "1",
   }
   return self
end

-- Both databases and the folder are empty.
function Run:clear()
   self:stop()
   by_log.drop_slots(main)
   for _, name in ipairs { "shop", "reports" } do
      main:exec(("drop database if exists %s with (force)"):format(name))
      main:exec("create database " .. name)
   end
   self.folder, self.made = scope.dir "page", {}
   self.env.HOME = self.folder
end

function Run:sql(name, text)
   local path = self.folder .. "/.sql"
   files.write(path, text)
   local status, said = Run.finish(self:start("psql -qX -v ON_ERROR_STOP=1 -f .sql " .. name))
   assert(status == 0, said)
end

-- Starts a command of the shell; what it says, on either way, goes to one file.
function Run:start(command)
   self.serial = (self.serial or 0) + 1
   local out = ("%s/.out.%d"):format(self.folder, self.serial)
   return {
      out = out, command = command,
      proc = assert(native.spawn {
         argv = { "sh", "-c", "exec 2>&1\n" .. command }, cwd = self.folder, env = self.env,
         stdin = "null", stdout = out, stderr = "null",
      }),
   }
end

-- Waits for its end. Returns the status and the output.
function Run.finish(started)
   local ended = started.proc:wait(wait.scaled(30))
   if not ended then
      started.proc:kill("KILL", "group")
      error(("no end of: %s\n%s"):format(started.command, files.read(started.out)), 0)
   end
   return ended.exit, files.read(started.out)
end

function Run:stop()
   if self.running then
      self.running.proc:kill("TERM", "group")
      Run.finish(self.running)
      self.running = nil
   end
end

-- Comparing ---------------------------------------------------------------------------------------

-- A line of output without what differs from run to run.
local function normal(line)
   return (line
      :gsub("pgcdc_%x%x%x%x%x%x%x%x", "SLOT"):gsub("[%d.]+ k?M?B of the log", "SIZE of the log")
      :gsub("[%d.]+ k?M?B behind", "SIZE behind"):gsub("by pid %d+", "by pid N")
      :gsub("%d%d%d%d%-%d%d%-%d%d[T ]%d%d:%d%d:%d%d%.?%d*[+-]?[%d:]*Z?", "TIME")
      :gsub("^%d%d:%d%d:%d%d%f[ ]", "TIME")
      :gsub("a scan takes .*$", "a scan takes N")
      :gsub("rows_per_s=%d+", "rows_per_s=N"):gsub("in [%d.]+ seconds", "in N seconds")
      :gsub('"xid":%d+', '"xid":N'):gsub('"seq":%d+', '"seq":N')
      :gsub('"sequence":"%d+"', '"sequence":"N"')
      :gsub('"ts_ms":%d+', '"ts_ms":N'):gsub('"txId":%d+', '"txId":N')
      :gsub('"version":"[%d.]+"', '"version":N')
      :gsub("(public%.[%w_]+)/%d+/", "%1/N/")
      :gsub("transaction %d+", "transaction N"):gsub("Postgres %d+[%w.]*", "Postgres N")
      :gsub("a scan takes %S+ s, %S+ %%", "a scan takes N s, N %%%%")
      :gsub("%s+$", ""))
end

-- Lines of the log, and the others, as texts: they reach a terminal on ways of their own.
local function parts(lines, any_order)
   local log, data = {}, {}
   for _, line in ipairs(lines) do
      local list = line:find "^ts=" and log or data
      list[#list + 1] = normal(line)
   end
   if any_order then
      table.sort(data)
   end
   while data[#data] == "" do
      data[#data] = nil
   end
   return table.concat(log, "\n"), table.concat(data, "\n")
end

local function lines_of(text)
   local lines = {}
   for line in (text:gsub("([^\n])$", "%1\n")):gmatch "([^\n]*)\n" do
      lines[#lines + 1] = line
   end
   return lines
end

-- Lines that are folded in the manuals, as they were: what begins with three blanks goes on.
local function unfold(lines)
   local whole = {}
   for _, line in ipairs(lines) do
      local more = #whole > 0 and line:match "^   %s*(.*)$"
      if more then
         local glue = whole[#whole]:find "[,:{]$" and "" or " "
         whole[#whole] = whole[#whole] .. glue .. more
      else
         whole[#whole + 1] = line
      end
   end
   return whole
end

local function assert_same(shown, text, any_order)
   local log, data = parts(lines_of(text), any_order)
   local shown_log, shown_data = parts(shown, any_order)
   lu.assertEquals(data .. "\n-- log:\n" .. log, shown_data .. "\n-- log:\n" .. shown_log)
end

-- Waits until what runs on has said these lines, and no more, since <from>. Returns how far it is.
local function wait_same(running, from, shown, any_order)
   local log, data = parts(shown, any_order)
   local last
   local ok = pcall(wait.until_, function()
      last = files.read(running.out):sub(from + 1)
      local now_log, now_data = parts(lines_of(last), any_order)
      return now_log == log and now_data == data
   end, 15, "the output that is shown")
   if not ok then
      assert_same(shown, last, any_order)
      error("the output was late", 0)
   end
   return from + #last
end

-- Blocks ------------------------------------------------------------------------------------------

local languages = {}

function languages.sql(run, block)
   run:sql(block.words.db or "shop", block.text)
end

function languages.sh(run, block)
   local status, text = Run.finish(run:start("set -e\n" .. block.text))
   lu.assertEquals({ status, text }, { tonumber(block.words.status or 0), text })
   run.said = text
end

function languages.lua(run, block)
   local name = block.text:match "^%-%- ([%w_]+%.lua):" or "script.lua"
   local text = block.text
   if block.words.fragment then
      text = 'local orders = pgcdc.source { table = "orders", interval = 1 }\n' .. text
   end
   files.write(run.folder .. "/" .. name, text)
   if block.words.later then
      return
   end
   local words = (block.words.args or ""):gsub(",", " ")
   local command = ("pgcdc-lua -d dbname=shop --state .state.%d --log-level error --once %s %s")
      :format(block.line, name, words)
   local status, said = Run.finish(run:start(command))
   lu.assertEquals({ status, said }, { tonumber(block.words.status or 0), said })
   run.said = said
end

-- The commands of a block, each with what it prints: {command=, lines=}.
local function read_commands(block)
   local commands, last = {}, nil
   for _, line in ipairs(block.lines) do
      local command = line:match "^%$ (.*)$"
      local more = line:match "^> ?(.*)$"
      if command then
         last = { command = command, lines = {} }
         commands[#commands + 1] = last
      elseif more and #last.lines == 0 then
         last.command = last.command .. "\n" .. more
      else
         assert(last, "a console begins with $ and a command")
         last.lines[#last.lines + 1] = line
      end
   end
   for _, one in ipairs(commands) do
      one.lines = block.words.folded and unfold(one.lines) or one.lines
   end
   return commands
end

function languages.console(run, block)
   local commands = read_commands(block)
   for i, one in ipairs(commands) do
      local is_last = i == #commands
      local started = run:start(one.command)
      if is_last and block.words["runs-on"] then
         run.running = started
         run.seen = wait_same(started, 0, one.lines, block.words["any-order"])
      else
         local status, text = Run.finish(started)
         assert_same(one.lines, text, block.words["any-order"])
         lu.assertEquals(status, is_last and tonumber(block.words.status) or 0)
         run.said = text
      end
   end
end

function languages.text(run, block)
   local lines = block.words.folded and unfold(block.lines) or block.lines
   if block.words["goes-on"] then
      run.seen = wait_same(run.running, run.seen, lines, block.words["any-order"])
   else
      assert(block.words.output, "a text is output, or it goes-on, or says skip")
      assert_same(lines, run.said, block.words["any-order"])
   end
end

local function run_block(run, block)
   local words = block.words
   if words.fresh then
      run:clear()
   end
   for name in (words.needs or ""):gmatch "[^,]+" do
      if not run.made[name] then
         run.made[name] = true
         local sql = tables[name]
         run:sql("shop", type(sql) == "function" and sql() or sql)
      end
   end
   local f = languages[block.language]
   assert(f, ("nobody runs blocks of '%s'"):format(block.language))
   f(run, block)
   if words.stop then
      run:stop()
   end
end

-- Starts the server that a block asks for. Returns false if there is none on this machine.
local function start_server(run, block)
   if block.words.server == "redis" then
      if not redis.is_there() then
         return false
      end
      run.redis = run.redis or redis.new()
      run.env.REDIS_URL = run.redis:url(true)
   elseif block.words.server == "nats" then
      if not nats.is_there() then
         return false
      end
      run.nats = run.nats or nats.new()
      run.env.NATS_URL = run.nats:url()
   elseif block.words.server == "kafka" then
      if not kafka.is_there() then
         return false
      end
      run.kafka = run.kafka or kafka.mock()
      run.env.KAFKA_BROKERS = run.kafka.brokers
   elseif block.words.server == "http" then
      if not receiver.is_there() then
         return false
      end
      run.http = run.http or receiver.new()
      run.env.HOOK_URL = run.http:url()
   elseif block.words.server == "clickhouse" then
      if not clickhouse.is_there() then
         return false
      end
      run.clickhouse = run.clickhouse or clickhouse.new()
      run.env.CLICKHOUSE_URL = run.clickhouse:url()
   end
   return true
end

local function run_page(path)
   local page = read(path)
   local run = new_run(page)
   run:clear()
   local problems = {}
   for _, block in ipairs(page.blocks) do
      local is_picture = path == "src/README.md" and not languages[block.language]
      if not block.words.skip and not is_picture and start_server(run, block) then
         local ok, problem = pcall(run_block, run, block)
         if not ok then
            problems[#problems + 1] = ("%s:%d: %s"):format(path, block.line,
               type(problem) == "table" and problem.msg or tostring(problem))
         end
      end
   end
   run:stop()
   lu.assertEquals(table.concat(problems, "\n\n"), "")
end

for _, path in ipairs(pages) do
   TestManuals["test_blocks_of_" .. path:gsub("%W+", "_"):lower()] = function()
      run_page(path)
   end
end

-- Names -------------------------------------------------------------------------------------------

local function set_of(list)
   local set = {}
   for _, name in ipairs(list) do
      set[name] = true
   end
   return set
end

-- Those that are not in the set, sorted, as one text.
local function missing(names, set)
   local list = {}
   for _, name in ipairs(names) do
      if not set[name] then
         list[#list + 1] = name
      end
   end
   table.sort(list)
   return table.concat(list, " ")
end

local function matches(text, pattern)
   local list = {}
   for found in text:gmatch(pattern) do
      list[#list + 1] = found
   end
   return list
end

-- The part of a page of Markdown from a heading to the next one, as text.
local function section(page, title)
   local lines = {}
   local is_inside = false
   for _, line in ipairs(page.lines) do
      if line:find "^#" then
         is_inside = line:match "^#+%s+(.*)$" == title
      end
      lines[#lines + 1] = is_inside and line or nil
   end
   return table.concat(lines, "\n")
end

-- Links between pages lead to files and headings that are there.
function TestManuals.test_links()
   local wrong = {}
   for _, path in ipairs(matches(server.run({ "find", top, "-name", "*.md", "-not", "-path",
         top .. "/build/*" }, { user = false }), "[^\n]+")) do
      local folder = path:match "^(.*)/"
      for _, target in ipairs(manual.links(manual.read(path))) do
         local file, anchor = target:match "^([^#]*)#?(.*)$"
         local to = file == "" and path or native.realpath(folder .. "/" .. file)
         local is_there = target:find "^https?://" or to and (anchor == ""
            or manual.anchors(manual.read(to))[anchor])
         if not is_there then
            wrong[#wrong + 1] = path:sub(#top + 2) .. ": " .. target
         end
      end
   end
   lu.assertEquals(table.concat(wrong, "\n"), "")
end

-- The man page has every option of --help, and no page one that is not there.
function TestManuals.test_options()
   local help = program.run { options = { "--help" }, state = false }.stdout
   local options = matches(help, "%-%-[%w-]+")
   table.move({ "-d", "-s", "-h", "-V" }, 1, 4, #options + 1, options)
   local man = read "src/pgcdc-lua.1"
   local heads = {}
   for i, line in ipairs(man.prose) do
      if line == ".TP" then
         table.move(matches(man.prose[i + 1], "%-+%a[%w-]*"), 1, 9, #heads + 1, heads)
      end
   end
   lu.assertEquals(missing(options, set_of(heads)), "")
   for _, path in ipairs(pages) do
      local page = read(path)
      local text = path:find "%.1$" and table.concat(page.prose, "\n") or manual.code(page)
      for _, command in ipairs { "curl", "systemctl" } do -- their options are their own
         text = text:gsub("%f[%w]" .. command .. " [^\n|]*", "")
      end
      local named = matches(" " .. text, "[%s=](%-%-%a[%w-]*)")
      lu.assertEquals({ path, missing(named, set_of(options)) }, { path, "" })
   end
end

-- The man page says the version that it is of.
function TestManuals.test_version()
   local said = program.run { options = { "--version" }, state = false }.stdout
   local version = said:match "^%S+ (%S+)"
   lu.assertStrContains(read "src/pgcdc-lua.1".lines[3] .. "\n", '"pgcdc\\-lua '
      .. version .. '"')
end

-- Where the manual of scripts tells of the fields of each class of meta.lua.
local sections = {
   batch = "Events", change = "Changes", failed = "When a handler fails",
   policy = "When a handler fails", problem = "Events", sink = "Your own",
   ["source.spec"] = "Sources", rotation = "Files: jsonl, csv, text",
   ["file.spec"] = "Files: jsonl, csv, text", ["csv.spec"] = "Files: jsonl, csv, text",
   ["postgres.spec"] = "Tables: postgres",
   ["kafka.spec"] = "Kafka",
   ["remote.spec"] = "Over the network", ["http.spec"] = "HTTP", ["redis.spec"] = "Redis",
   ["clickhouse.spec"] = "ClickHouse", ["opensearch.spec"] = "OpenSearch",
   ["nats.spec"] = "NATS JetStream",
}

-- The manual of scripts has the fields that editors are told of, and sources take those in it.
function TestManuals.test_fields()
   local meta = files.read(top .. "/lua/pgcdc/meta.lua")
      .. files.read(top .. "/lua/pgcdc/meta_sinks.lua")
   local page = read "lua/README.md"
   for class, title in pairs(sections) do
      local prose = section(page, title):gsub("\n```.-\n```", "")
      local code = table.concat(matches(prose, "`([^`]+)`"), "\n")
      local text = assert(meta:match("%-%-%-@class pgcdc%." .. class .. "[^%w.].-\n\n"), class)
      local fields = matches(text, "%-%-%-@field ([%a_]+)")
      lu.assertTrue(#fields > 0, class)
      lu.assertEquals({ class, missing(fields, set_of(matches(code, "[%w_]+"))) }, { class, "" })
   end
   local heads = {}
   for _, line in ipairs(matches("\n" .. section(page, "Sources"), "\n%* ([^\n:]*)")) do
      table.move(matches(line:gsub("%b()", ""), "`([%a_]+)`"), 1, 9, #heads + 1, heads)
   end
   lu.assertTrue(#heads >= 19, #heads)
   local result = program.run { state = false, options = { "--check" }, script = ([[
      local wrong = setmetatable({}, {__name = "wrong"})
      for name in ("%s"):gmatch "%%S+" do
         local _, message = pcall(pgcdc.source, {[name] = wrong})
         if message:find "unknown field" then print(name, message) end
      end]]):format(table.concat(heads, " ")) }
   lu.assertEquals({ result.status, result.stdout }, { 0, "" }, result.stderr)
end

-- Each bundled script has a section that names its options, those of all are in one of their own.
function TestManuals.test_bundled_scripts()
   local page = read "scripts/README.md"
   local all = set_of(matches(section(page, "Options of all"), "`([%a_]+)="))
   local names = {}
   for _, line in ipairs(program.run { options = { "--list" }, state = false }.lines) do
      names[#names + 1] = line:match "^%S+"
   end
   local titles = matches(table.concat(page.lines, "\n"), "\n## (%a+)")
   lu.assertEquals(missing(names, set_of(titles)), "")
   for _, name in ipairs(names) do
      local help = program.run { bundled = name, args = { "help=1" }, state = false }.stdout
      local own = set_of(matches(section(page, name), "`([%a_]+)="))
      local is_apart = name == "verify" or name == "trigger" or name == "slot"
         or name == "hints"
      lu.assertEquals({ name, missing(matches(help, "\n  ([%a_]+)="),
         is_apart and own or setmetatable(own, { __index = all })) }, { name, "" })
      for option, default in help:gmatch "\n  ([%a_]+)=(%S*)" do
         if own[option] and default ~= "..." and not all[option] then
            local shown = ("`%s=%s`"):format(option, default)
            lu.assertStrContains(section(page, name), shown)
         end
      end
   end
end

-- The man page is clean: groff has nothing to say of it.
function TestManuals.test_man_page()
   local path = top .. "/src/pgcdc-lua.1"
   local said = server.run({ "sh", "-c", 'exec groff -man -Tutf8 -ww "$0" 2>&1 >/dev/null', path },
      { user = false })
   lu.assertEquals(said, "")
end

return TestManuals
