-- increment.lua: what a poll by a column that grows costs, in a big table and in a little one.
-- SPDX-License-Identifier: MIT
--
-- Called by bench.lua, with its tools. Polls come every 10 ms, so a commit waits for 5 ms on the
-- average until one begins.

local native = require "native"
local program = require "program"

local samples = 60

-- The median of the seconds from before a commit of 100 rows to the last of them in the handler,
-- less those of the statement itself when nobody waits.
local function measure(bench, name)
   local p = program.start {
      dsn = bench.database, stdout = "pipe",
      script = ([[
         local t = pgcdc.source {table = "%s", interval = 0.01, capture = "increment",
            column = "id", start = "now"}
         t:on("change", function(change) io.write(change.key.id, "\n") io.flush() end)
         t:on("ready", function() io.write("ready\n") io.flush() end)
      ]]):format(name),
   }
   local statement = "insert into " .. name
      .. " (name) select 'new' from generate_series(1, 100)"
   local list, own = {}, {}
   p:wait_until(function() return #p:lines() == 1 end, 60, "the start")
   for i = 0, samples do
      local before = #p:lines()
      native.sleep(math.random() * 0.02)
      local start = native.now()
      bench.database:exec(statement)
      while #p:lines() < before + 100 do
         assert(native.now() < start + 60, "a change does not arrive")
         native.poll({ p.proc }, 1)
      end
      if i > 0 then -- the first poll reads the table
         list[#list + 1] = native.now() - start
      end
      assert(#p:lines() == before + 100)
   end
   p:stop()
   for _ = 1, samples do
      local start = native.now()
      bench.database:exec(statement)
      own[#own + 1] = native.now() - start
   end
   table.sort(list)
   table.sort(own)
   return list[samples // 2] - own[samples // 2]
end

return function(bench)
   local rows, took = 5 * bench.rows, {}
   for name, n in pairs { grown = rows, sprout = rows // 100 } do
      bench.database:exec(([[
         create table %s (id bigint generated always as identity primary key, name text, note text);
         insert into %s (name, note) select 'name ' || i, md5(i::text)
            from generate_series(1, %d) i]]):format(name, name, n), bench.patience)
      bench.database:exec("vacuum analyze " .. name, bench.patience)
      took[name] = measure(bench, name)
   end
   bench.say("100 new rows to the handler by increment: %.1f ms of %d rows, %.1f ms of %d rows",
      took.sprout * 1000, rows // 100, took.grown * 1000, rows)
   bench.line(("by increment every 10 ms, 100 new rows of %d"):format(rows),
      ("%.1f ms"):format(took.grown * 1000), "<= 20 ms", took.grown <= 0.020)
   bench.database:exec "drop table grown"
end
