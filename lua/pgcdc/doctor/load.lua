-- pgcdc.doctor.load: what reading a table costs its server, and warnings that follow from it.
-- SPDX-License-Identifier: MIT
--
-- By xmin each poll after a commit reads the whole table. How long that takes is measured on its
-- first blocks.

local raw = require "pgcdc.raw"
local answer = require "pgcdc.postgres.answer"
local mend = require "pgcdc.mend"

local load = {}

local BLOCKS = 1024         -- that are read, at most
local LONGEST = "10s"       -- that the server works for us

-- The table and what inherits from it: how much there is, and which part is the biggest.
local SIZE = answer.question([[
   WITH RECURSIVE tree(oid) AS (SELECT $1::oid
      UNION SELECT inhrelid FROM pg_catalog.pg_inherits JOIN tree ON inhparent = tree.oid),
   parts AS (SELECT c.oid, pg_catalog.pg_relation_size(c.oid) AS bytes,
         greatest(c.reltuples, 0) AS rows,
         pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
      FROM tree JOIN pg_catalog.pg_class c USING (oid)
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm'))
   SELECT sum(bytes)::int8 AS bytes, sum(rows)::int8 AS rows, max(bytes)::int8 AS biggest,
      (SELECT name FROM parts ORDER BY bytes DESC, name LIMIT 1) AS name,
      current_setting('block_size')::int8 AS block
   FROM parts]], {
   bytes = "integer?", rows = "integer?", biggest = "integer?", name = "text?", block = "integer" })

local COUNT = answer.question("", { n = "integer" })

local units = { "bytes", "kB", "MB", "GB", "TB" }

-- 73400320 -> "70 MB"
function load.size(bytes)
   local i = 1
   while bytes >= 1024 and units[i + 1] do
      bytes, i = bytes / 1024, i + 1
   end
   return ("%.3g %s"):format(bytes, units[i])
end

-- Reads the first blocks of the biggest part. Returns the seconds, rows, and blocks.
local function measure(run, size)
   local blocks = math.min(BLOCKS, size.biggest // size.block)
   local began = raw.now()
   COUNT.sql = ("SELECT count(*)::int8 AS n FROM ONLY %s WHERE ctid < '(%d,0)'::tid"
      .. " AND pg_catalog.age(xmin) IS NOT NULL"):format(size.name, blocks)
   local n = blocks > 0 and COUNT:row(run).n or 0
   return raw.now() - began, n, blocks
end

-- Adds what is wrong with a scan of so many seconds in each interval.
local function warn(item, found, t, interval, max_load)
   if found.share <= max_load then
      return
   end
   local every = math.ceil(found.seconds / max_load * 10) / 10
   item.warnings[#item.warnings + 1] = {
      text = ("a scan takes about %.2g s of each %g s, more than max_load = %g: it is polled every"
         .. " %.2g s; take capture = \"trigger\" or \"logical\", hints, or a longer"
         .. " interval"):format(found.seconds, interval, max_load, every),
      mends = {
         mend.option("interval", ("%.2g"):format(every)),
         mend.install("trigger", t),
         mend.option("capture", "trigger"),
      },
   }
end

--- Sets item.load = {text =, rows =, bytes =, and where polls scan the table: seconds = a scan
--- takes, share = of the interval}, and may add warnings. `t`: the table, see doctor/sources;
--- `facts`: of the source, see feeds. Views and foreign tables have no load that is known.
function load.examine(item, db, t, facts)
   local function run(...)
      return db:query(...)
   end
   db:exec(("SET statement_timeout = '%s'"):format(LONGEST))
   local size = SIZE:row(run, t.oid)
   if not size.name then
      return
   end
   local found = { bytes = size.bytes, rows = size.rows }
   if facts.capture == "xmin" then
      local seconds, n, blocks = measure(run, size)
      local scale = blocks > 0 and size.bytes / size.block / blocks or 1
      found.seconds = seconds * scale
      found.rows = math.floor(n * scale + 0.5)
      found.share = found.seconds / facts.interval
   end
   found.text = ("about %d rows, %s"):format(found.rows, load.size(found.bytes))
   if found.seconds then
      found.text = ("%s, a scan takes %.2g s, %.2g %% of the interval"):format(found.text,
         found.seconds, 100 * found.share)
      warn(item, found, t, facts.interval, facts.max_load)
   end
   item.load = found
end

return load
