-- watch.lua: runs the program on one table, and says whether what it delivered was exact.
-- SPDX-License-Identifier: MIT
--
-- The oracle: the id of a change is table/xid/key, so a row version that is there now has been
-- delivered if and only if a change with the id made of its xmin and key was. Valid
-- in clusters younger than 2^32 transactions and for keys whose text is plain.

local files = require "files"
local lu = require "luaunit"
local program = require "program"
local tables = require "tables"
local wait = require "wait"

local watch = {}

local function quote(value)
   return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

-- A script for one source with these fields. It prints every change as JSON, and a line that begins
-- with the event's name for ready, schema and error. <more> is appended: `source` is the source.
-- <brief>: of a change only op and id are printed, which is all that the checks below look at.
function watch.script(fields, more, brief)
   local print_change = brief
      and [[io.stdout:write('{"op":"', change.op, '","id":"', change.id, '"}\n')]]
      or [[io.stdout:write(tostring(change), "\n")]]
   local words = {}
   for name, value in pairs(fields) do
      words[#words + 1] = ("   %s = %s,\n"):format(name, quote(value))
   end
   table.sort(words)
   return ([[
local source = pgcdc.source {
%s}
source:on("change", function(change)
   %s
end)
source:on("ready", function() print "ready" end)
source:on("schema", function(old, new)
   local function names(columns)
      local list = {}
      for i, column in ipairs(columns) do
         list[i] = column.name .. " " .. column.type
      end
      return table.concat(list, ", ")
   end
   print("schema: " .. names(old) .. " -> " .. names(new))
end)
source:on("error", function(event) print("error: " .. event.message) end)
%s]]):format(table.concat(words), print_change, more or "")
end

-- Starts the program on <db>. Options: program.start's, and
--    table      default "t"
--    source     more fields of the source; interval defaults to 0.02
--    more       more lines of the script
--    brief      see above
function watch.start(db, options)
   options = options or {}
   local fields = tables.merge({ table = options.table or "t", interval = 0.02 }, options.source)
   local all = { dsn = options.dsn or db,
      script = watch.script(fields, options.more, options.brief) }
   return program.start(setmetatable(all, { __index = options }))
end

-- Options for `start`: at the rows of the snapshot with these numbers the program prints "row N"
-- and waits until it gets a line "go".
function watch.gates(...)
   local numbers = {}
   for i, number in ipairs { ... } do
      numbers[i] = ("[%d] = true"):format(number)
   end
   return { stdin = "pipe", brief = true, more = ([[
      local gates, n = { %s }, 0
      source:on("read", function()
         n = n + 1
         if gates[n] then
            print("row " .. n)
            io.stdout:flush()
            assert(io.read "l" == "go")
         end
      end)]]):format(table.concat(numbers, ", ")) }
end

-- The same, and waits until every row that is there has been delivered.
function watch.start_current(db, options)
   local p = watch.start(db, options)
   watch.wait_current(p, db)
   return p
end

-- Runs the program with --once on table t; it must end well. <state>: its state file, default a new
-- one; <source>: more fields of the source. Returns the result; program.state in it is the file.
function watch.once(db, state, source)
   local fields = tables.merge({ table = "t" }, source)
   local result = program.run {
      dsn = db, script = watch.script(fields), options = { "--once" }, state = state,
   }
   lu.assertEquals(result.status, 0, result.stderr)
   return result
end

-- The ids of the changes, in order.
function watch.ids(changes)
   local ids = {}
   for i, change in ipairs(changes) do
      ids[i] = change.key.id
   end
   return ids
end

-- The same as text.
function watch.keys(changes)
   return table.concat(watch.ids(changes), " ")
end

-- Waits until the script was told that the snapshot is over.
function watch.wait_ready(p, seconds)
   return watch.wait_line(p, "^ready$", seconds)
end

-- Waits for a line of standard output that matches; returns it, or its captures.
function watch.wait_line(p, pattern, seconds)
   local at = 1
   return p:wait_until(function()
      local lines = p:lines()
      while at <= #lines do
         local found = table.pack(lines[at]:match(pattern))
         at = at + 1
         if found[1] then
            return table.unpack(found, 1, found.n)
         end
      end
      return nil
   end, seconds, pattern .. " on standard output")
end

-- The lines of standard output that match.
function watch.lines(p, pattern)
   local found = {}
   for _, line in ipairs(p:lines()) do
      if line:find(pattern) then
         found[#found + 1] = line
      end
   end
   return found
end

-- What came from the program so far: how often each id, each op, and all together. Found by
-- pattern, since decoding takes its time: of a change op comes first and id last.
local function seen_of(p)
   p.watched = p.watched or { upto = 0, counts = {}, ops = { read = 0, upsert = 0 }, n = 0 }
   local seen = p.watched
   local lines = p:lines()
   for i = seen.upto + 1, #lines do
      local op, id = lines[i]:match '^{"op":"(%a+)".*"id":"([^"]*)"}$'
      if op then
         seen.counts[id] = (seen.counts[id] or 0) + 1
         seen.ops[op] = seen.ops[op] + 1
         seen.n = seen.n + 1
      end
   end
   seen.upto = #lines
   return seen
end

local function list(programs)
   return programs.changes and { programs } or programs
end

-- The ids that changes of all rows of <name> in <db> would have as they are now.
-- <key>: SQL of the key's text, default id.
function watch.versions(db, name, key)
   local ids = {}
   local prefix = (name or "t"):find("%.") and "" or "public."
   for _, row in ipairs(db:exec(("select xmin, %s from %s"):format(key or "id", name or "t"))) do
      ids[#ids + 1] = ("%s%s/%s/%s"):format(prefix, name or "t", row[1], row[2])
   end
   return ids
end

-- Waits until every row of the table as it is when this is called has been delivered by one of the
-- programs (the last one is the one that runs).
function watch.wait_current(programs, db, name, options)
   options = options or {}
   programs = list(programs)
   local wanted = watch.versions(db, name, options.key)
   local last = programs[#programs]
   local at = 1
   local function has_come(id)
      for _, p in ipairs(programs) do
         if p.watched.counts[id] then
            return true
         end
      end
      return false
   end
   wait.until_(function()
      local ended = not last:alive()
      for _, p in ipairs(programs) do
         seen_of(p)
      end
      while at <= #wanted and has_come(wanted[at]) do
         at = at + 1
      end
      return at > #wanted or ended and error("the program ended\n" .. last:describe(), 0)
   end, options.seconds or 20, function()
      return ("%d rows, of which %s has not come\n%s"):format(#wanted, wanted[at], last:describe())
   end)
end

-- The ids that came more than once; of many only the first and how many there are. <counts>: a
-- predicate for the ids to look at, default all.
function watch.repeats(programs, counts)
   local repeated, seen = {}, {}
   for _, p in ipairs(list(programs)) do
      for id, count in pairs(seen_of(p).counts) do
         if (count > 1 or seen[id]) and (not counts or counts(id)) then
            repeated[#repeated + 1] = id
         end
         seen[id] = true
      end
   end
   table.sort(repeated)
   return #repeated <= 10 and repeated
      or { ("%s and %d more"):format(repeated[1], #repeated - 1) }
end

-- How often each op came: {read = n, upsert = n}.
function watch.ops(programs)
   local ops = { read = 0, upsert = 0 }
   for _, p in ipairs(list(programs)) do
      for op, count in pairs(seen_of(p).ops) do
         ops[op] = ops[op] + count
      end
   end
   return ops
end

-- How many changes came. (Quicker than #p:changes(), which decodes them.)
function watch.count(programs)
   local n = 0
   for _, p in ipairs(list(programs)) do
      n = n + seen_of(p).n
   end
   return n
end

-- What the server knows of the program's connections to <db>: rows of
-- {pid, state, xact_start or false, wait_event or false, query}.
function watch.activity(db)
   return db:exec [[
      select pid, state, xact_start, wait_event, query from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend'
         and application_name = 'pgcdc-lua']]
end

-- The program's one connection to <db>, when it has one.
function watch.backend(db, seconds)
   return wait.until_(function()
      local rows = watch.activity(db)
      return rows[1] and rows[1][1]
   end, seconds, "the program to connect")
end

-- The pid of the backend that runs a COPY for the program; if <is_stuck>, and cannot send more.
local function copying(db, is_stuck)
   for _, row in ipairs(watch.activity(db)) do
      if row[5]:find "^COPY" and row[2] == "active"
         and (not is_stuck or row[4] == "ClientWrite") then
         return row[1]
      end
   end
   return nil
end

-- Calls <go>, which makes the program COPY much, and stops the program with SIGSTOP when it has
-- written some of that to its standard output; with <early> as soon as the COPY runs. Returns the
-- backend's pid if it was in the middle of the COPY; else nil, and the program goes on.
function watch.freeze(p, db, go, early)
   local before = files.size(p.dir .. "/stdout")
   go()
   p:wait_until(function()
      if early then
         return copying(db)
      end
      return files.size(p.dir .. "/stdout") > before
   end, 30, "the COPY")
   p:signal "STOP"
   local pid
   -- what is in the socket is not read any more: a long COPY gets stuck
   pcall(wait.until_, function()
      pid = copying(db, true)
      return pid
   end, 0.3)
   if not pid then
      p:signal "CONT"
   end
   return pid
end

-- The same, for sure: <go> is called until the program is caught.
function watch.freeze_in_copy(p, db, go)
   for _ = 1, 20 do
      local pid = watch.freeze(p, db, go)
      if pid then
         return pid
      end
      watch.wait_current(p, db, "t", { seconds = 60 }) -- nothing of it is to come later
   end
   error("the program cannot be caught in a COPY\n" .. p:describe(), 2)
end

-- Waits until the program has told of all that <db> holds: nothing came twice, <reads> rows came
-- by the snapshot.
function watch.assert_exact(p, db, reads)
   watch.wait_current(p, db)
   lu.assertEquals(watch.repeats(p), {})
   lu.assertEquals(watch.ops(p).read, reads)
end

return watch
