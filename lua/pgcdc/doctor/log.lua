-- pgcdc.doctor.log: what capture = "logical" needs of a server.
-- SPDX-License-Identifier: MIT

local answer = require "pgcdc.postgres.answer"
local mend = require "pgcdc.mend"
local plain = require("pgcdc.names").plain

local log = {}

local ROOM = 10 -- slots and senders that are added where there are too few

local SERVER = answer.question([[
   SELECT current_setting('max_replication_slots')::int8 AS max_slots,
      (SELECT count(*) FROM pg_catalog.pg_replication_slots)::int8 AS slots,
      current_setting('max_wal_senders')::int8 AS max_senders,
      (SELECT count(*) FROM pg_catalog.pg_stat_replication)::int8 AS senders,
      current_setting('max_slot_wal_keep_size') AS keep_size,
      EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE database = current_database()
         AND (slot_name = $1 OR $1 = '' AND slot_name ~ '^pgcdc_[0-9a-f]{8}$')) AS has_slot,
      (SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user)
         OR EXISTS (SELECT FROM pg_catalog.pg_roles m WHERE m.rolname = 'rds_replication'
         AND pg_has_role(m.oid, 'MEMBER')) AS may]], {
   max_slots = "integer", slots = "integer", max_senders = "integer", senders = "integer",
   keep_size = "text", has_slot = "boolean", may = "boolean" })

-- The publication has the table itself: of one that is partitioned it may tell of the parts only.
local IS_MEMBER = answer.question([[
   SELECT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
      JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
      WHERE p.pubname = $1 AND r.prrelid = $2::oid) AS yes]], { yes = "boolean" })

local function by(db)
   return function(...)
      return db:query(...)
   end
end

-- Why a slot could not be made, and what mends that; nil where it can. (Sources that are added
-- later take a slot for a while, besides that of all.)
local function lacking(server, t)
   local needed = server.has_slot and 1 or 2
   local function setting(name, value)
      return mend.sql(t.database, ("ALTER SYSTEM SET %s = %d"):format(name, value + ROOM),
         "restart")
   end
   if server.slots + needed > server.max_slots then
      return ("%d of %d replication slots are in use, and %d more are needed: drop one, or allow"
         .. " more"):format(server.slots, server.max_slots, needed),
         setting("max_replication_slots", server.max_slots)
   elseif server.senders + needed > server.max_senders then
      return ("%d of %d WAL senders are in use, and %d more are needed"):format(server.senders,
         server.max_senders, needed), setting("max_wal_senders", server.max_senders)
   end
end

local function by_root(t, publication)
   return { mend.sql(t.database, ("ALTER PUBLICATION %s SET (publish_via_partition_root = true)")
      :format(plain(publication))) }
end

-- {a pattern of the message, what mends it: f(t, what the pattern has found, db)}
local rules = {
   { "wal_level = logical", function(t)
      return { mend.sql(t.database, "ALTER SYSTEM SET wal_level = 'logical'", "restart") }
   end },
   { "publication (.-) does not have ", function(t, publication, db)
      if IS_MEMBER:row(by(db), publication, t.oid).yes then
         return by_root(t, publication)
      end
      return { mend.sql(t.database, ("ALTER PUBLICATION %s ADD TABLE %s"):format(
         plain(publication), t.name)) }
   end },
   { "publication (%S+) leaves out", function(t, publication)
      return { mend.sql(t.database, ("ALTER PUBLICATION %s SET (publish = 'insert, update, delete,"
         .. " truncate')"):format(plain(publication))) }
   end },
   { "publication (%S+) publishes partitions", by_root },
   { "replica identity", function(t)
      return { mend.sql(t.database, ("ALTER TABLE %s REPLICA IDENTITY FULL"):format(t.name)) }
   end },
   { "REPLICA IDENTITY", function(t)
      return { mend.sql(t.database, ("ALTER TABLE %s REPLICA IDENTITY FULL"):format(t.name)) }
   end },
   { "unlogged", function()
      return { mend.option("capture", "xmin") }
   end },
}

-- The publication is not there: `slot` makes it, where a slot could be made.
local function install(item, t, facts, db)
   local publication = facts.spec.publication
   local why, first = lacking(SERVER:row(by(db), facts.spec.slot or ""), t)
   item.text = item.text .. (why and "; " .. why or "")
   return { first or mend.install("slot", t, publication and "publication=" .. publication),
            first and mend.install("slot", t, publication and "publication=" .. publication) }
end

--- What mends a source by the log that cannot be read; may add to the item's text. `t`: the table,
--- see doctor/sources.
function log.mends(item, t, facts, db)
   if item.text:find "there is no publication" then
      return install(item, t, facts, db)
   end
   for _, rule in ipairs(rules) do
      local found = item.text:match(rule[1])
      if found then
         return rule[2](t, found, db)
      end
   end
   return {}
end

local function fail(item, text, m)
   item.ok, item.text = false, text
   item.mends[#item.mends + 1] = m
end

--- Whether a slot can be made and read, which a run does first. `item` was found well before.
function log.examine(item, db, t, facts)
   local server = SERVER:row(by(db), facts.spec.slot or "")
   local why, m = lacking(server, t)
   if not server.may then
      fail(item, ("role %s may not replicate (on RDS: GRANT rds_replication TO it)"):format(t.role),
         mend.sql(t.database, ("ALTER ROLE %s REPLICATION"):format(t.role)))
   elseif why then
      fail(item, why, m)
   elseif server.keep_size == "-1" then
      item.warnings[#item.warnings + 1] = {
         text = "while the program is stopped, nothing bounds what the slot keeps of the log",
         mends = { mend.sql(t.database, "ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'",
            "reload") } }
   end
end

return log
