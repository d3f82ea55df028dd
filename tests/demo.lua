-- demo.lua: shows changes of a real table arriving, for ten seconds; `make demo`.
-- SPDX-License-Identifier: MIT
--
-- Starts a throw-away server, writes to a table a few times a second and prints what the
-- bundled script `jsonl` makes of it. All it started and made is gone afterwards, also
-- after Ctrl-C; see support/scope.lua.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = here .. "/support/?.lua;" .. package.path
package.cpath = here .. "/../build/tests/?.so;" .. package.cpath

local cluster = require "cluster"
local native = require "native"
local program = require "program"
local scope = require "scope"

local seconds = tonumber(arg[1]) or 10

local function say(text, ...)
   io.write("\n-- ", text:format(...), "\n")
   io.flush()
end

-- Statements of the writer, one every <pause> seconds, for ever from the start.
local pause = 0.4
local writes = {
   "insert into orders (customer, total) values ('Grace', 12.50)",
   "update orders set status = 'paid' where id = (select max(id) from orders)",
   "insert into orders (customer, total) values ('Edsger', 99.99), ('Barbara', 7)",
   "update orders set total = total + 0.01 where customer = 'Ada'",
   "delete from orders where status = 'paid'",
}

-- Prints the lines that came since the last time.
local function show(watcher, shown)
   local lines = watcher:lines()
   for i = shown + 1, #lines do
      io.write(lines[i], "\n")
   end
   io.flush()
   return #lines
end

local function main()
   scope.begin_run()
   say("Starting a throw-away Postgres in %s; it ends with this demo.", scope.base())
   local server = cluster.new { name = "demo" }
   local version = server:value "show server_version"

   say("It is Postgres %s. Creating a table with two rows; nothing else is set up there.", version)
   server:exec [[
      create table orders (id bigint generated always as identity primary key,
                           customer text not null, total numeric(10,2), status text default 'new');
      insert into orders (customer, total) values ('Ada', 10), ('Alan', 1.20)]]

   say "Running:  pgcdc-lua --dsn ... jsonl table=orders interval=0.1"
   local watcher = program.start {
      dsn = server, bundled = "jsonl", args = { "table=orders", "interval=0.1" },
   }
   watcher:wait_until(function(p) return #p:lines() == 2 end, 20, "the rows that are there")
   say "The rows that were there already arrive first, as \"read\":"
   local shown = show(watcher, 0)

   say("Now the table is written to, and changes arrive as they are committed, for %g seconds:",
      seconds)
   local start, written, is_told = native.now(), 0, false
   while native.now() < start + seconds do
      if native.now() >= start + written * pause then
         local sql = writes[written % #writes + 1]
         written = written + 1
         server:exec(sql)
         if sql:find "^delete" and not is_told then
            is_told = true
            say "(That was a DELETE. What is gone cannot be read: it shows nothing here.)\n"
         end
      end
      native.sleep(0.02)
      shown = show(watcher, shown)
   end

   say("Done: %d statements, %d changes. Stopping the program and the server, removing %s.",
      written, shown - 2, scope.base())
   local result = watcher:stop()
   assert(result.status == 0, result.stderr)
   return scope.end_run()
end

local problem = main()
if problem then
   io.stderr:write(problem, "\n")
   os.exit(1)
end
