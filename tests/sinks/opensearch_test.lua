-- opensearch_test.lua: pgcdc.sinks.opensearch against a server, or what stands in for it.
-- SPDX-License-Identifier: MIT
--
-- `make check-opensearch` runs it with the server.

local files = require "files"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local opensearch = require "opensearch"
local program = require "program"
local remote_sinks = require "remote_sinks"
local wait = require "wait"

local TestOpensearch = {}

local test = remote_sinks.tests(TestOpensearch, opensearch.is_there, opensearch.new)

-- A script that puts table t there. <options>: fields of the sink, <source>: of the source.
local function script(server, options, source)
   return ([[pgcdc.source {table = "t", interval = 0.02, deletes = true, %s}:sink(
      pgcdc.sinks.opensearch {url = %q, %s})]]):format(source or "", server:url "", options or "")
end

-- The ids of the documents of an index.
local function ids(server, index)
   local list = {}
   for id in pairs(server:documents(index or "t")) do
      list[#list + 1] = id
   end
   table.sort(list)
   return table.concat(list, " ")
end

local function count(server)
   local n = 0
   for _ in pairs(server:documents "t") do
      n = n + 1
   end
   return n
end

test("documents", function(server)
   local db, state = fixtures.names(4), fixtures.state()
   local how = { dsn = db, state = state, script = script(server, "gzip = true") }
   once.ok(how)
   lu.assertEquals(server:documents "t", { ["1"] = { id = 1, name = "n1" },
      ["2"] = { id = 2, name = "n2" }, ["3"] = { id = 3, name = "n3" },
      ["4"] = { id = 4, name = "n4" } })
   db:exec "update t set name = 'x' where id = 2; delete from t where id = 3"
   db:exec "update t set id = 7 where id = 4"
   once.ok(how)
   lu.assertEquals(ids(server), "1 2 7")
   lu.assertEquals(server:documents "t"["2"].name, "x")
   once.ok { dsn = db, state = fixtures.state(), script = script(server) } -- comes again
   lu.assertEquals(ids(server), "1 2 7")
   once.ok { dsn = db, script = script(server, [[index = "i_{schema}", format = function(c)
      return c.row.id > 1 and '{"v":' .. c.row.id .. '}' or nil end]]) }
   lu.assertEquals(server:documents "i_public", { ["2"] = { v = 2 }, ["7"] = { v = 7 } })
end)

test("long_and_odd_keys", function(server)
   local db = fixtures.database [[create table t (a text, b int, primary key (a, b));
      insert into t values ('x,"y', 1), (repeat('k', 600), 2)]]
   once.ok { dsn = db, script = script(server) }
   local list = {}
   for id in pairs(server:documents "t") do
      list[#list + 1] = #id <= 20 and id or #id
   end
   table.sort(list, function(a, b) return tostring(a) < tostring(b) end)
   lu.assertEquals(list, { 64, 'x\\,"y,1' })
end)

-- Some documents of a request are refused, some are to come again; the others are there meanwhile.
test("answers_for_single_documents", function(server)
   local busy = "'busy'"
   if opensearch.is_real then
      server:be_picky()
      busy = "'9'"
   end
   local db = fixtures.names(1000, ([[case when i %% 100 = 7 then 'bad' when i %% 200 = 9 then %s
      else i::text end]]):format(busy))
   local result = once.run { dsn = db, script = script(server, "", remote_sinks.DEAD_LETTERS) }
   local dead, reasons = remote_sinks.dead(result)
   for _, why in ipairs(reasons) do
      lu.assertStrContains(why, "mapper_parsing_exception: failed to parse")
   end
   lu.assertEquals(dead, { 7, 107, 207, 307, 407, 507, 607, 707, 807, 907 })
   lu.assertEquals(count(server), 990)
end)

-- Settings of an index, or of "_cluster".
local function set(server, where, settings)
   assert(server:request("PUT", ("/%s%s"):format(where, where == "_cluster" and "/settings"
      or "/_settings"), settings))
end

-- A block passes: all waits, no document becomes a dead letter, and one line says why. Also when it
-- is the cluster that is blocked, which is the answer to the whole request.
for what, case in pairs {
   an_index = { "t", '{"index.blocks.write": %s}', "403: cluster_block_exception: index [t] "
      .. "blocked by: [FORBIDDEN/8/index write (api)]" },
   a_full_disk = { "t", '{"index.blocks.read_only_allow_delete": %s}',
      "429: cluster_block_exception: index [t] blocked by: [TOO_MANY_REQUESTS/12/disk usage "
      .. "exceeded flood-stage watermark, index has read-only-allow-delete block]" },
   a_cluster = { "_cluster", '{"persistent": {"cluster.blocks.read_only": %s}}',
      "403: cluster_block_exception: blocked by: [FORBIDDEN/6/cluster read-only (api)]" },
   a_cluster_whose_disk_is_full = { "_cluster",
      '{"persistent": {"cluster.blocks.read_only_allow_delete": %s}}',
      "403: cluster_block_exception: blocked by: [FORBIDDEN/13/cluster read-only / allow delete" },
} do
   test(("a_block_of_%s_is_waited_out"):format(what), function(server)
      local where, settings, message = table.unpack(case)
      local db, state = fixtures.names(2), fixtures.state()
      local how = { dsn = db, state = state,
                    script = script(server, "", remote_sinks.DEAD_LETTERS) }
      once.ok(how)
      lu.assertEquals(ids(server), "1 2")
      set(server, where, settings:format "true")
      db:exec "insert into t values (3, 'n3'), (4, 'n4'); delete from t where id = 1"
      local p = program.start(how)
      p:wait_stderr('level=warn msg="opensearch: [^\n]*' .. message:gsub("%p", "%%%0"))
      lu.assertStrContains(p:stderr(), "; it waits until the block is removed")
      lu.assertEquals(ids(server), "1 2")
      set(server, where, settings:format "null")
      wait.until_(function() return ids(server) == "2 3 4" end, 30, "the documents")
      local result = p:stop()
      lu.assertEquals({ result.stdout, result.status }, { "", 0 })
   end)
end

-- Meanwhile what is for another index goes on, and what waits is not tried document by document.
test("an_index_that_is_blocked_beside_one_that_is_not", function(server)
   local db, state = fixtures.names(2), fixtures.state()
   local how = { dsn = db, state = state, script = script(server, [[index = function(c)
      return c.key.id % 2 == 0 and "even" or "odd" end]]) }
   once.ok(how)
   set(server, "odd", '{"index.blocks.read_only_allow_delete": true}')
   db:exec "insert into t select i, 'n' || i from generate_series(3, 42) i"
   local p = program.start(how)
   wait.until_(function() return ids(server, "even"):find "%f[%d]42" end, 30, "the even ones")
   db:exec "insert into t values (44, 'n44')"
   wait.until_(function() return ids(server, "even"):find "%f[%d]44" end, 30, "one more")
   if not opensearch.is_real then
      local sizes
      wait.until_(function()
         sizes = {}
         for line in files.read(server.dir .. "/requests"):gmatch "[^\n]+" do
            local _, odd = line:gsub("odd", "")
            sizes[#sizes + 1] = odd > 1 and odd or nil
         end
         return #sizes == 3
      end, 30, "three tries")
      lu.assertEquals(sizes, { 20, 20, 20 })
   end
   set(server, "odd", '{"index.blocks.read_only_allow_delete": null}')
   wait.until_(function() return ids(server, "odd"):find "%f[%d]41" end, 30, "the odd ones")
   lu.assertEquals(p:stop().status, 0)
end)

-- What is wrong with an index, or with who may write there, is no document's fault.
test("errors_of_an_index", function(server)
   local db = fixtures.names(4)
   local function refuse(words)
      files.write(server.dir .. "/refusal", words)
   end
   -- an index that is not there, and is not made
   if opensearch.is_real then
      assert(server:request("PUT", "/_cluster/settings",
         '{"persistent": {"action.auto_create_index": "false"}}'))
   else
      refuse "404 index_not_found_exception no such index [u]"
   end
   local how = { dsn = db, state = fixtures.state(), script = script(server, "index = 'u'",
      remote_sinks.DEAD_LETTERS) }
   local result = once.ends(1, how)
   lu.assertStrContains(result.text, "404: index_not_found_exception: no such index [u]")
   lu.assertStrContains(result.text, "and it is not made by itself: make it")
   if opensearch.is_real then
      assert(server:request("PUT", "/u", "{}"))
      once.ok(how)
      return lu.assertEquals(ids(server, "u"), "1 2 3 4")
   end
   -- who may not write there
   refuse "403 security_exception no permissions for [indices:data/write/bulk[s]]"
   lu.assertStrContains(once.ends(3, how).text, "403: security_exception: no permissions for")
end)

-- So many errors that the answer is longer than what is read of it.
test("long_answers", function(server)
   if opensearch.is_real then
      server:be_picky()
   end
   local db = fixtures.names(1000, "case when i > 500 then 'bad' else '1' end")
   once.run { dsn = db, script = script(server, "", "on_error = 'skip'") }
   lu.assertEquals(count(server), 500)
end)

test("a_server_that_is_down", function(server)
   local db = fixtures.names(2)
   if opensearch.is_real then
      server:kill()
   else
      files.write(server.dir .. "/down", "")
   end
   local p = program.start { dsn = db, script = script(server) }
   p:wait_stderr(opensearch.is_real and "connect" or "503")
   if opensearch.is_real then
      server:start()
   else
      os.remove(server.dir .. "/down")
   end
   wait.until_(function() return ids(server) == "1 2" end, 20, "the documents")
   lu.assertEquals(p:stop().status, 0)
end)

test("bad_input", function(server)
   local db = fixtures.names(1)
   for options, message in pairs {
      ['index = "Big"'] = "names have no upper-case letters",
      ["timeout = 60"] = "timeout must be less than 60",
      ['index = "{nmae}"'] = "in braces: unknown 'nmae'",
   } do
      lu.assertStrContains(once.ends(1, { dsn = db, script = script(server, options) }).text,
         message)
   end
   local result = once.ends(1, { dsn = db, script = ([[pgcdc.source {table = "t"}:sink(
      pgcdc.sinks.opensearch {url = %q})]]):format(server:url "/x/y") })
   lu.assertStrContains(result.text, opensearch.is_real and "no handler found" or "404")
end)

function TestOpensearch.test_values_that_are_no_changes()
   if opensearch.is_there() then
      remote_sinks.check_only_changes "opensearch"
   end
end

return TestOpensearch
