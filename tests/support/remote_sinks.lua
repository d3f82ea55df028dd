-- remote_sinks.lua: what the tests of sinks that send over the network have in common.
-- SPDX-License-Identifier: MIT
--
-- <kind> is the name of a sink: "redis" is pgcdc.sinks.redis.

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local once = require "once"
local program = require "program"
local wait = require "wait"

local remote_sinks = {}

-- A function that puts tests into a suite: test(name, f, ...). Each gets a server that others have
-- not used, make(...); where <is_there> says that there is none on this machine it does nothing.
function remote_sinks.tests(suite, is_there, make)
   return function(name, f, ...)
      local options = table.pack(...)
      suite["test_" .. name] = function()
         if is_there() then
            f(make(table.unpack(options, 1, options.n)))
         end
      end
   end
end

-- The ids of the rows of messages, whose `data` is a change as JSON.
function remote_sinks.ids(messages)
   local list = {}
   for i, message in ipairs(messages) do
      list[i] = tostring(json.decode(message.data).row.id)
   end
   return table.concat(list, " ")
end

-- ---- dead letters ----

-- Fields of a source whose changes that are refused are printed, for `dead`.
remote_sinks.DEAD_LETTERS = [[on_error = {otherwise = "dead_letter"}, dead_letter = function(letter)
   local value = letter.change
   print(pgcdc.json.encode {id = (value.row or value).id, why = letter.error}) end]]

-- The ids of the rows that became dead letters, sorted; and for each in the order in which they
-- came, why. The run must have ended well.
function remote_sinks.dead(result)
   lu.assertEquals(result.status, 0, result.stderr)
   local ids, reasons = {}, {}
   for i, letter in ipairs(result.changes) do
      ids[i], reasons[i] = letter.id, letter.why
   end
   table.sort(ids)
   return ids, reasons
end

-- ---- what must hold for each kind ----

-- Tries to make sinks with wrong options. <wrong>: what the error must say, by the text of the
-- options. It must not show a password "pw" of an address.
function remote_sinks.check_bad_options(kind, wrong)
   local list = {}
   for options in pairs(wrong) do
      list[#list + 1] = ("[%q] = {%s},"):format(options, options)
   end
   local result = program.run { state = false, script = ([[
      for options, spec in pairs {%s} do
         local ok, why = pcall(pgcdc.sinks.%s, spec)
         print(pgcdc.json.encode {options = options, ok = ok, why = ok or why})
      end]]):format(table.concat(list, "\n"), kind) }
   lu.assertEquals(result.status, 0, result.stderr)
   for _, it in ipairs(result.changes) do
      lu.assertFalse(it.ok, it.options)
      lu.assertStrContains(it.why, wrong[it.options])
      lu.assertStrContains(it.why, ("pgcdc.sinks.%s: "):format(kind))
      lu.assertNotStrContains(it.why, "pw@")
   end
   lu.assertEquals(#result.changes, #list)
end

-- A run, of these options of program.start, is refused by the sandbox that has no network.
function remote_sinks.check_needs_network(kind, how)
   local result = once.ends(1, how, { options = { "--sandbox" } })
   lu.assertStrContains(result.text, ("the sink '%s' needs the network, which the sandbox has only "
      .. "with --allow-network"):format(kind))
end

-- The older of two programs with one name ends, and writes nothing any more. <script> brings table
-- t there; count() is how many rows are, is_saved(), if it is given, whether the first program has
-- done all that it does.
function remote_sinks.check_take_over(kind, script, count, is_saved)
   local db, state = fixtures.names(50), fixtures.state()
   local first = program.start { dsn = db, state = state, script = script }
   first:wait_stderr 'msg="ready"'
   wait.until_(function() return count() == 50 end, 20, "50 rows")
   if is_saved then
      wait.until_(is_saved, 20, "the position")
   end
   first:signal "STOP"
   db:exec "update t set name = 'x'"
   once.ok { dsn = db, state = fixtures.state(state), script = script }
   lu.assertEquals(count(), 100)
   first:signal "CONT"
   local result = first:finish()
   lu.assertEquals(result.status, 1)
   lu.assertStrContains(result.stderr,
      ("another pgcdc-lua has taken over the sink '%s'"):format(kind))
   lu.assertEquals(count(), 100)
end

-- The state file is lost: the target's position counts. messages() is what is there, see `ids`.
function remote_sinks.check_lost_state(script, messages)
   local db = fixtures.names(3)
   once.ok { dsn = db, script = script }
   db:exec "update t set name = 'x' where id = 2"
   once.ok { dsn = db, script = script }
   lu.assertEquals(remote_sinks.ids(messages()), "1 2 3 2")
end

-- A sink that takes changes and nothing else says so, before it connects to anything.
function remote_sinks.check_only_changes(kind)
   for text, type_name in pairs { ["{id = 1}"] = "table", ["'x'"] = "string" } do
      local result = once.ends(1, { state = false, script = ([[
         pgcdc.sinks.%s {url = "http://127.0.0.1:1"}:write(%s)]]):format(kind, text) })
      lu.assertStrContains(result.text,
         ("%s takes changes, not a %s"):format(kind, type_name))
   end
end

return remote_sinks
