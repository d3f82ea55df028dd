-- log_history.lua: tables whose every version is written down, for sources by the log.
-- SPDX-License-Identifier: MIT
--
-- Writers change the tables a and b; triggers write each change to h, in the same transaction. So
-- what came of h says which changes of a and b were to come, and in which order.

local json = require "json"
local killing = require "killing"
local lu = require "luaunit"
local pgbench = require "pgbench"
local program = require "program"

local log_history = {}

-- The tables, in a database that by_log.database made.
log_history.tables = [[
   CREATE TABLE a (id int PRIMARY KEY, ver bigint);
   CREATE TABLE b (id int PRIMARY KEY, ver bigint);
   CREATE TABLE h (n bigserial PRIMARY KEY, t text, id int, op text, ver bigint);
   CREATE SEQUENCE ver;
   INSERT INTO a SELECT n, nextval('ver') FROM generate_series(1, 10) n;
   INSERT INTO b SELECT n, nextval('ver') FROM generate_series(1, 20) n;
   CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO h (t, id, op, ver) VALUES (TG_TABLE_NAME, CASE TG_OP WHEN 'DELETE' THEN OLD.id
         ELSE NEW.id END, lower(TG_OP), CASE TG_OP WHEN 'DELETE' THEN 0 ELSE NEW.ver END);
      RETURN NULL; END $$;
   CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION log();
   CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON b FOR EACH ROW EXECUTE FUNCTION log();
   ALTER PUBLICATION pgcdc ADD TABLE a, b, h]]

local transaction = [[
\set id random(1, 20)
\set other random(1, 20)
\set kind random(1, 8)
BEGIN;
INSERT INTO a VALUES (:id, nextval('ver')) ON CONFLICT (id) DO UPDATE SET ver = nextval('ver');
SAVEPOINT s;
UPDATE b SET ver = nextval('ver') WHERE id = :other;
\if :kind = 1
ROLLBACK TO s;
\endif
\if :kind = 2
DELETE FROM a WHERE id = :id;
\endif
SAVEPOINT s2;
UPDATE a SET ver = nextval('ver') WHERE id = :id;
\if :kind = 3
ROLLBACK;
\else
COMMIT;
\endif
]]

-- The three tables into one file, which has each line once.
function log_history.script(path)
   return ([[
local sink = pgcdc.sinks.jsonl { path = %q }
for _, name in ipairs { "a", "b", "h" } do
   local source = pgcdc.source { table = name, capture = "logical", interval = 0.5 }
   source:on("ready", function() print("ready " .. name) end)
   source:sink(sink)
end]]):format(path)
end

-- The rest, once nobody writes any more.
function log_history.run_once(options)
   local last = program.run(setmetatable({ options = { "--once" } }, { __index = options }))
   lu.assertEquals(last.status, 0, last.stderr)
end

-- Starts writers for so many seconds.
function log_history.write(db, seconds)
   return pgbench.start_script(db, transaction, "-c", "4", "-T", tostring(seconds),
      "--max-tries=100")
end

-- What the file says: the changes of a and b in order, and those that h tells of, as words.
local function read_changes(path)
   local told, wanted = {}, {}
   for line in io.lines(path) do
      local change = json.decode(line)
      if change.table == "h" then
         if change.op == "insert" then
            wanted[#wanted + 1] = ("%s %s %d %d"):format(change.row.t, change.row.op,
               change.row.id, change.row.ver)
         end
      elseif change.op ~= "read" then
         told[#told + 1] = ("%s %s %d %d"):format(change.table, change.op, change.key.id,
            change.op == "delete" and 0 or change.row.ver)
      end
   end
   return told, wanted
end

-- Each version that was told was told once, no key went back, and the last one of each key is what
-- there is.
function log_history.assert_newest(db, path)
   local last, seen = { a = {}, b = {}, h = {} }, {}
   for line in io.lines(path) do
      local change = json.decode(line)
      local id = change.key.id or change.key.n
      local now = last[change.table]
      if change.op == "delete" then
         now[id] = nil
      else
         local ver = change.row.ver
         lu.assertTrue((now[id] or 0) <= ver, killing.seed() .. ": a key goes back: " .. line)
         now[id] = ver
      end
      lu.assertNil(seen[change.id], killing.seed() .. ": twice: " .. line)
      seen[change.id] = true
   end
   for _, name in ipairs { "a", "b" } do
      for _, row in ipairs(db:exec(("SELECT id, ver FROM %s"):format(name))) do
         lu.assertEquals(last[name][tonumber(row[1])], tonumber(row[2]),
            killing.seed() .. ": " .. name .. " " .. row[1])
      end
   end
   local h = 0
   for _ in pairs(last.h) do
      h = h + 1
   end
   lu.assertEquals(h, tonumber(db:value "SELECT count(*) FROM h"), killing.seed())
end

-- Every version of every table, once, in the order of commits, and of the changes in a transaction.
function log_history.assert_exact(db, path)
   local told, wanted = read_changes(path)
   lu.assertTrue(#wanted > 300, #wanted)
   lu.assertEquals(#wanted, tonumber(db:value "SELECT count(*) FROM h"), killing.seed())
   lu.assertEquals(#told, #wanted, killing.seed())
   for i, word in ipairs(wanted) do
      lu.assertEquals(told[i], word, killing.seed() .. ", change " .. i)
   end
end

return log_history
