-- settle_test.lua: sinks, and what is saved when: positions never run ahead.
-- SPDX-License-Identifier: MIT
--
-- Promises: a sink's token is saved with the position and comes back; what a sink refuses is tried
-- again and never skipped; a value that an operator holds keeps its batch, and every later batch of
-- its source, unsaved; what comes after a crash is what was not saved.

local ctl = require "ctl"
local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"
local program = require "program"

local TestSettle = {}

local function database(n)
   return fixtures.t_and_u("name text", "'n' || i", n)
end

local run = once.script

local function start(db, script, state, args)
   return program.start { script = script, dsn = db, state = state, args = args }
end

-- sinks ----------------------------------------------------------------------------------------

-- A sink that says what is done with it; its token counts what was written. Dies where it is told.
local TALKING = [[
   local die, at = pgcdc.args.die, tonumber(pgcdc.args.at)
   local calls = {}
   local function say(name, ...)
      io.write(name, ...)
      io.write " "
      io.flush()
      calls[name] = (calls[name] or 0) + 1
      if name == die and calls[name] == at then os.exit(7) end
   end
   local count = 0
   local talking = {
      restore = function(self, token)
         count = token and token.count or 0
         say("restore", token and count or "nil")
      end,
      write = function(self, c) count = count + 1 say("write", c.key.id) end,
      flush = function() say("flush", count) return {count = count} end,
      saved = function(self, token) say("saved", token.count) end,
      close = function() say "close" end,
   }
   pgcdc.source {table = "t", interval = 0.02}:sink(talking)]]

function TestSettle.test_the_order_of_calls()
   local db, state = database(2), fixtures.state()
   local function calls(status, args)
      return (run(db, TALKING, status, { state = state, args = args }).stdout
         :gsub("(flush%d )%1", "%1"))
   end
   -- it dies in the first flush after the writes: nothing is saved
   lu.assertEquals(calls(7, { die = "write", at = 2 }), "restorenil flush0 write1 write2 ")
   lu.assertEquals(calls(7, { die = "flush", at = 2 }), "restore0 flush0 write1 write2 flush2 ")
   -- `saved` is called after the position is saved
   lu.assertEquals(calls(7, { die = "saved", at = 1 }),
      "restore0 flush0 write1 write2 flush2 saved2 ")
   db:exec "insert into t values (3)"
   lu.assertEquals(calls(0), "restore2 flush2 write3 flush3 saved3 close ")
   lu.assertEquals(calls(0), "restore3 flush3 close ")
end

-- Whatever has a JSON may be a token, and comes back as it was.
function TestSettle.test_tokens()
   local db, state = database(1), fixtures.state()
   local result
   for run_number = 1, 2 do
      result = run(db, [[
         local tokens = {a = 1, b = 2^53, c = "", d = "text \n \"\0 é", e = false, f = true,
            g = {}, h = {1, {x = {}}, "z"}, i = -0.5, j = math.mininteger, k = pgcdc.null}
         local names = {}
         for name in pairs(tokens) do names[#names + 1] = name end
         table.sort(names)
         local s = pgcdc.source {table = "t"}
         for _, name in ipairs(names) do
            s:sink {name = name, write = function() end, flush = function() return tokens[name] end,
               restore = function(_, token)
                  print(name, token == nil and "none" or math.type(token) or type(token),
                     pgcdc.json.encode(token) == pgcdc.json.encode(tokens[name]))
               end}
         end]], 0, { state = state })
      lu.assertEquals(#result.lines, 11)
      for i, line in ipairs(result.lines) do
         local name = ("abcdefghijk"):sub(i, i)
         local types = { a = "integer", b = "float", c = "string", d = "string", e = "boolean",
            f = "boolean", g = "table", h = "table", i = "float", j = "integer", k = "userdata" }
         local want = run_number == 1 and "none\t" .. tostring(name == "k")
            or types[name] .. "\ttrue"
         lu.assertEquals(line, name .. "\t" .. want)
      end
   end
end

-- Sinks without names are told apart by their order; two of one name are a mistake. One sink may
-- take the values of several streams.
function TestSettle.test_names()
   local db, state = database(2), fixtures.state()
   local script = [[
      local s = pgcdc.source {table = "t"}
      for i = 1, 3 do
         s:sink {write = function() end, flush = function() return i end,
            restore = function(_, token) print(i, token) end}
      end
      local shared, n = {name = "shared"}, 0
      function shared:write() n = n + 1 end
      function shared:close() print("shared", n) end
      s:sink(shared)
      s:map(function(c) return c end):sink(shared)]]
   local function output()
      return run(db, script, 0, { state = state }).stdout
   end
   lu.assertEquals(output(), "1\tnil\n2\tnil\n3\tnil\nshared\t4\n")
   lu.assertEquals(output(), "1\t1\n2\t2\n3\t3\nshared\t0\n")
   local result = run(db, [[
      local s = pgcdc.source {table = "t"}
      s:sink {name = "same", write = print}
      s:sink {name = "same", write = print}]], 1)
   lu.assertStrContains(result.text, "script.lua:3: two sinks are named 'same'")
end

-- What is no sink is told so at the script's line.
function TestSettle.test_misuse()
   for case, message in pairs {
      ["nil"] = "nil", ["7"] = "a number", ["{}"] = "write", ["{write = 3}"] = "write",
      ["{write = print, flush = 3}"] = "flush", ["{write = print, restore = 'x'}"] = "restore",
      ["{write = print, close = {}}"] = "close", ["{write = print, name = ''}"] = "name",
      ["{write = print, name = 7}"] = "name",
   } do
      local result = program.run {
         script = "local s = pgcdc.stream {}\ns:sink(" .. case .. ")", state = false }
      lu.assertEquals(result.status, 1, case)
      lu.assertStrContains(result.stderr, "script.lua:2: sink")
      lu.assertStrContains(result.stderr, message)
   end
end

-- Without a source there is no position: the sink is flushed and closed at the end all the same.
function TestSettle.test_a_sink_without_a_source()
   local result = program.run { script = [[
      local s = pgcdc.stream {}
      s:sink {restore = function(_, t) print("restore", t) end, write = function(_, x) print(x) end,
         flush = function() print "flush" return 5 end, close = function() print "close" end}
      pgcdc.after(0.001, function() s:emit(1) end)]] }
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertEquals(result.stdout:gsub("flush\n", "", 1), "restore\tnil\n1\nflush\nclose\n")
end

-- sinks that fail ------------------------------------------------------------------------------

-- Tried again as the policy has it, other sources go on meanwhile; in the end a stop with the
-- message, whatever the policy says of changes; nothing is lost.
function TestSettle.test_write_fails()
   local db, state = database(3), fixtures.state()
   local script = [[
      local tries, allowed = 0, tonumber(pgcdc.args.allowed)
      local s = pgcdc.source {table = "t",
         on_error = {retry = 2, wait = 0, otherwise = pgcdc.args.otherwise},
         dead_letter = pgcdc.args.otherwise == "dead_letter" and print or nil}
      s:map(function(c) return c.key.id end):sink {name = "bad", write = function(_, id)
         if id == 2 then
            tries = tries + 1
            if tries <= allowed then error "refused" end
         end
         print(id, tries)
      end}]]
   for _, otherwise in ipairs { "skip", "stop", "dead_letter" } do
      local result = run(db, script, 1, { state = state,
         args = { allowed = 3, otherwise = otherwise } })
      lu.assertEquals(result.stdout, "1\t0\n")
      lu.assertStrContains(result.text, "source public.t, key 2: ")
      lu.assertStrContains(result.text, "refused (after 3 attempts)")
      lu.assertStrContains(result.text, "script.lua:8: in ")
   end
   local result = run(db, script, 0, { state = state, args = { allowed = 2, otherwise = "skip" } })
   lu.assertEquals(result.stdout, "1\t0\n2\t3\n3\t3\n")
   -- a failure that is not the sink's is the change's, after a sink as before it
   result = run(db, [[
      local s = pgcdc.source {table = "t", on_error = "skip"}
      s:sink {write = function(_, c) pcall(error) print(c.key.id) end}
      s:sink {write = function(_, c) return pcall(error) end}
      s:sink(function(c) if c.key.id == 2 then error "boom" end end)]], 0)
   lu.assertEquals(result.stdout, "1\n2\n3\n")
   lu.assertStrContains(result.text, "then=skipped")
end

-- The same for flush; each failure is told, with its waits.
function TestSettle.test_flush_fails()
   local db, state = database(3), fixtures.state()
   local script = [[
      local tries, allowed, written = 0, tonumber(pgcdc.args.allowed), 0
      local s = pgcdc.source {table = "t",
         on_error = {retry = 2, wait = 0.01, factor = 3, otherwise = "skip"}}
      s:sink {name = "bad", write = function(_, c) written = written + 1 end, flush = function()
         if written > 0 then
            tries = tries + 1
            if tries <= allowed then error "refused" end
         end
         print(written, tries)
         return written
      end}]]
   local result = run(db, script, 1, { state = state, args = { allowed = 3 } })
   lu.assertEquals(result.stdout:gsub("0\t0\n", ""), "")
   lu.assertStrContains(result.text, "refused (after 3 attempts)")
   lu.assertStrContains(result.text, "source public.t")
   lu.assertStrMatches(result.text, ".*attempt=1 retry_in=0.01 .*attempt=2 retry_in=0.03 .*")
   result = run(db, script, 0, { state = state, args = { allowed = 2 } })
   lu.assertStrContains(result.stdout, "3\t3\n")
   result = run(db, script, 0, { state = state, args = { allowed = 2 } })
   lu.assertEquals(result.stdout:gsub("0\t0\n", ""), "")
end

-- A target that is away is tried again for ever, whatever the policy; other sources go on; a stop
-- meanwhile ends well and loses nothing.
function TestSettle.test_flush_later()
   local db, state = database(3), fixtures.state()
   local script = [[
      local keep = require "pgcdc.delivery.participants"
      local written = {}
      local s = pgcdc.source {table = "t", interval = 0.02}
      s:sink {name = "away", write = function(_, c) written[#written + 1] = c.key.id end,
         flush = function()
            if #written > 0 then
               print("trying", table.concat(written, " "))
               if not io.open(pgcdc.args.flag) then error(keep.later("it is away", 0.01)) end
               print("flushed", table.concat(written, " "))
               written = {}
            end
         end}
      pgcdc.source {table = "u", interval = 0.02}:sink(function(c) print("u", c.key.id) end)]]
   local flag = state .. ".flag"
   local p = start(db, script, state, { flag = flag })
   p:wait_stderr "it is away.*attempt=20 "
   db:exec "insert into t values (4); insert into u values (1)"
   p:wait_until(function() return p:stderr():find "attempt=40 " end, 10, "more tries")
   local result = p:stop()
   lu.assertEquals(result.status, 0)
   lu.assertStrContains(result.stdout, "u\t1\n")
   lu.assertNotStrContains(result.stderr, "level=error")
   lu.assertNotStrContains(result.stdout, "flushed")
   lu.assertNotStrContains(result.stdout, "4")
   assert(io.open(flag, "w")):close()
   result = run(db, script, 0, { state = state, args = { flag = flag } })
   local got = {}
   for list in result.stdout:gmatch "flushed\t([^\n]+)" do
      got[#got + 1] = list
   end
   lu.assertEquals(table.concat(got, " "), "1 2 3 4")
   lu.assertNotStrContains(result.stdout, "u\t")
end

-- A run with --once waits for the target too.
function TestSettle.test_once_waits_for_the_target()
   local result = run(database(2), [[
      local keep = require "pgcdc.delivery.participants"
      local tries, written = 0, 0
      pgcdc.source {table = "t"}:sink {write = function() written = written + 1 end,
         flush = function()
            tries = tries + (written > 0 and 1 or 0)
            if written > 0 and tries < 30 then error(keep.later("it is away", 0.001)) end
            print(written, tries)
         end}]], 0)
   lu.assertStrContains(result.stdout, "2\t30\n")
end

-- A write may find that its target is away as well.
function TestSettle.test_write_later()
   local script = [[
      local keep = require "pgcdc.delivery.participants"
      local tries = 0
      pgcdc.source {table = "t"%s}:map(function(c) return c.key.id end):sink {
         write = function(_, id)
            if id == 2 then
               tries = tries + 1
               if tries < 20 then error(keep.later("it is away", 0.001)) end
            end
            print(id, tries)
         end}]]
   local db = database(3)
   for _, policy in ipairs { "", ", on_error = 'skip'", ", on_error = {retry = 1}" } do
      lu.assertEquals(run(db, script:format(policy), 0).stdout, "1\t0\n2\t20\n3\t20\n")
   end
end

-- What is written by a timer, after a window, is saved when the target is back, also if nothing
-- else happens: a flush that fails then is tried again as any other.
function TestSettle.test_flush_fails_after_a_window()
   local db = database(2)
   local script = [[
      local keep = require "pgcdc.delivery.participants"
      local tries, written = 0, 0
      pgcdc.source {table = "t", interval = 60, on_error = {retry = 20, wait = 0.001}}
         :timed_window(0.05):sink {
            write = function(_, list) written = written + #list end,
            flush = function()
               if written > 0 then
                  tries = tries + 1
                  if tries < 10 then error(%s) end
                  if tries == 10 then print("flushed", written) end
               end
               return written
            end,
            saved = function(_, token) print("saved", token) end}]]
   for _, failure in ipairs { "keep.later('away', 0.001)", "'refused'" } do
      local result = run(db, script:format(failure), 0)
      lu.assertStrContains(result.stdout, "flushed\t2\nsaved\t2\n")
      local p = start(db, script:format(failure), fixtures.state())
      p:wait_until(function() return p:stdout():find "saved\t2" end, 5, "saved")
      p:stop()
   end
end

-- A sink that cannot be set up is told; one that is only away then is waited for.
function TestSettle.test_restore_fails()
   local db = database(1)
   local result = run(db, [[
      pgcdc.source {table = "t"}:sink {write = print, restore = function() error "no way" end}]], 1)
   lu.assertStrContains(result.text, "script.lua:1: no way")
   result = run(db, [[
      local keep = require "pgcdc.delivery.participants"
      local tries = 0
      pgcdc.source {table = "t"}:sink {write = function(_, c) print("write", c.key.id) end,
         restore = function()
            tries = tries + 1
            if tries < 5 then error(keep.later("it is away", 0.001)) end
            print "restored"
         end}]], 0)
   lu.assertEquals(result.stdout, "restored\nwrite\t1\n")
end

function TestSettle.test_close_fails()
   local result = run(database(1), [[
      pgcdc.source {table = "t"}:sink {write = function() end, close = function() error "no" end}]],
      1)
   lu.assertStrContains(result.text, "script.lua:1: no")
end

-- A save that failed is tried again when the log has said, and not when an idle source, or the same
-- one, has a position to save that only says "nothing happened": such tries were not announced, and
-- counted for the policy. (The program saves such positions at once.)
function TestSettle.test_a_save_is_not_tried_before_its_time()
   local db = database(1)
   local p = program.start { dsn = db, binary = program.binary() .. "-hasty", script = [[
      local t = pgcdc.source {table = "t", interval = 0.02, on_error = {retry = 1, wait = 3600}}
      local u = pgcdc.source {table = "u", interval = 0.02, on_change = function() end}
      local written = 0
      t:sink {name = "bad", write = function() written = written + 1 end, flush = function()
         assert(written == 0, "not now")
      end}]] }
   p:wait_stderr "attempt=1 retry_in=3600"
   local function saved()
      for _, source in ipairs(ctl.status(p).sources) do
         if source.name == "public.u" then
            return source.position.saved
         end
      end
   end
   for i = 1, 3 do
      local before = saved()
      p:wait_until(function()
         db:exec "SELECT pg_current_xact_id()" -- commits something that is none of ours
         return saved() ~= before
      end, 10, "position " .. i .. " of u")
   end
   lu.assertEquals(select(2, p:stderr():gsub("attempt=", "")), 1)
   p:kill9()
end

return TestSettle
