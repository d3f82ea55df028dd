-- hand_over_test.lua: from one capture to another: deletes in between are told.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local stepping = require "stepping"

local TestHandOver = {}

local XMIN = { capture = "xmin", deletes = true }
local PLAIN = { capture = "xmin" }
local GROWS = { capture = "increment", column = "id" }

-- From xmin with deletes to triggers: what was deleted before and after the installation comes with
-- the first poll, once, and what came and went meanwhile does not.
function TestHandOver.test_from_deletes_to_triggers()
   local db = fixtures.database(fixtures.numbers(8))
   local poll = stepping.new(db)
   poll(XMIN)
   db:exec "delete from t where id = 1"
   db:exec "update t set n = 1 where id = 2"
   stepping.trigger(db, "install")
   db:exec "delete from t where id = 3; insert into t values (9)"
   db:exec "insert into t values (10)"
   db:exec "delete from t where id = 10; update t set id = 40 where id = 4"
   lu.assertEquals(poll(), "delete 1 3 4, update 2, insert 9 40")
   lu.assertEquals(poll(), "")
   db:exec "delete from t where id in (2, 40); update t set n = 2 where id = 9"
   lu.assertEquals(poll(), "delete 2 40, upsert 9")
end

-- The same beside a transaction that is under way, and where the table was made anew.
function TestHandOver.test_from_deletes_to_triggers_beside_others()
   local db = fixtures.database(fixtures.numbers(8))
   local poll = stepping.new(db)
   poll(XMIN)
   stepping.trigger(db, "install")
   local busy = db:connect()
   busy:exec "begin; delete from t where id = 1; insert into t values (11)"
   db:exec "delete from t where id = 2; insert into t values (12)"
   lu.assertEquals(poll(), "delete 2, insert 12")
   lu.assertEquals(poll(), "")
   busy:exec "commit"
   db:exec "delete from t where id = 3"
   lu.assertEquals(poll(), "delete 1, upsert 11, delete 3")
   poll(XMIN)
   db:exec [[drop table t; create table t (id int primary key, n int default 0);
      insert into t values (4, 0), (5, 5)]]
   stepping.trigger(db, "install")
   local words = poll()
   lu.assertEquals(words, "update 4 5, delete 6 7 8 11 12")
   db:exec "delete from t where id = 4"
   lu.assertEquals(poll(), "delete 4")
end

-- Where no keys are known, what the triggers have noted since the last poll is told.
function TestHandOver.test_to_triggers_without_deletes()
   for _, before in ipairs { PLAIN, GROWS } do
      local db = fixtures.database(fixtures.numbers(8))
      local poll = stepping.new(db)
      poll(before)
      stepping.trigger(db, "install")
      db:exec "delete from t where id = 1; insert into t values (9)"
      db:exec "delete from t where id = 2"
      local words = poll()
      lu.assertStrContains(words, "delete 1 2")
      lu.assertStrContains(words, "upsert 9")
      lu.assertEquals(poll(), "")
      db:exec "delete from t where id = 3"
      lu.assertEquals(poll(), "delete 3")
   end
end

-- Deletes that are looked for from now on: what is there is learned.
function TestHandOver.test_from_none_to_deletes()
   for _, before in ipairs { PLAIN, GROWS } do
      local db = fixtures.database(fixtures.numbers(8))
      local poll = stepping.new(db)
      poll(before)
      db:exec "update t set n = 1 where id = 1"
      lu.assertEquals(poll(XMIN), "upsert 1")
      db:exec "delete from t where id = 2; update t set n = 2 where id = 3"
      lu.assertEquals(poll(XMIN), "delete 2, update 3")
   end
end

local function quiet(poll, fields)
   local words, result = poll(fields)
   lu.assertNotStrContains(result.stderr, "level=warn")
   return words
end

-- The other way: the last poll by triggers tells what they have noted, and learns what is there.
function TestHandOver.test_from_triggers_to_deletes()
   for _, fields in ipairs { XMIN, { capture = "xmin", deletes = true, old = true } } do
      local db = fixtures.database(fixtures.numbers(8))
      stepping.trigger(db, "install")
      local poll = stepping.new(db)
      poll()
      db:exec "update t set n = 1 where id = 1; delete from t where id in (2, 3)"
      db:exec "insert into t values (3); insert into t values (9); delete from t where id = 9"
      db:exec "update t set id = 40 where id = 4"
      local words = quiet(poll, fields)
      lu.assertEquals(words, "delete 2, upsert 1, delete 9, upsert 3, delete 4, upsert 40")
      stepping.trigger(db, "remove")
      lu.assertEquals(poll(fields), "")
      db:exec "delete from t where id in (1, 8, 40); insert into t values (9)"
      db:exec "update t set n = 2 where id in (3, 7)"
      words = quiet(poll, fields)
      lu.assertEquals(words, "delete 8 1 40, insert 9, update 3 7")
   end
end

-- Beside transactions that are under way, with savepoints, and others that end in between.
function TestHandOver.test_from_triggers_to_deletes_beside_others()
   local db = fixtures.database(fixtures.numbers(8))
   stepping.trigger(db, "install")
   local poll = stepping.new(db)
   local busy, other = db:connect(), db:connect()
   busy:exec "begin; delete from t where id = 1; insert into t values (11)"
   other:exec [[begin; delete from t where id = 2; savepoint s; insert into t values (12);
      release s]]
   poll()
   other:exec "commit"
   db:exec "delete from t where id = 3"
   lu.assertEquals(poll(XMIN), "delete 2, upsert 12, delete 3")
   busy:exec "commit"
   db:exec "delete from t where id in (4, 12)"
   lu.assertEquals(poll(XMIN), "delete 1 4 12, insert 11")
end

-- A row that was told before by its stamp, while its xmin, of a savepoint, still looks new: its
-- delete is told.
function TestHandOver.test_from_triggers_to_deletes_with_savepoints()
   local db = fixtures.database(fixtures.numbers(3))
   stepping.trigger(db, "install")
   local poll = stepping.new(db)
   local busy = db:connect()
   busy:exec "begin; update t set n = 9 where id = 1"
   db:exec "begin; savepoint s; insert into t values (12), (13); release s; commit"
   poll()
   lu.assertEquals(poll(XMIN), "")
   db:exec "delete from t where id = 12"
   lu.assertStrContains(poll(XMIN), "delete 12")
   busy:exec "commit"
   db:exec "delete from t where id in (1, 13)"
   lu.assertStrContains(poll(XMIN), "delete 1 13")
end

-- Where the notes are gone the table is read again; a source that did not begin with what was there
-- warns, and learns what is there.
function TestHandOver.test_from_triggers_that_are_gone_to_deletes()
   for start, want in pairs {
      snapshot = { "read 2 3 4 5 6 7 8", "the table is read again" },
      now = { "", "deletes since then are not told" },
   } do
      local db = fixtures.database(fixtures.numbers(8))
      local triggers = { capture = "trigger", start = start }
      local deletes = { capture = "xmin", deletes = true, start = start }
      stepping.trigger(db, "install")
      local poll = stepping.new(db)
      poll(triggers)
      db:exec "delete from t where id = 1"
      stepping.trigger(db, "remove")
      local words, result = poll(deletes)
      lu.assertEquals(words, want[1])
      lu.assertStrContains(result.stderr,
         "the triggers that noted deletes since the last poll were removed or installed anew")
      lu.assertStrContains(result.stderr, want[2])
      db:exec "delete from t where id = 2; insert into t values (9)"
      words, result = poll(deletes)
      lu.assertEquals(words, "delete 2, insert 9")
      lu.assertNotStrContains(result.stderr, "level=warn")
   end
end

-- The same where notes were pruned.
function TestHandOver.test_from_triggers_whose_notes_are_pruned_to_deletes()
   local db = fixtures.database(fixtures.numbers(4))
   stepping.trigger(db, "install")
   local poll = stepping.new(db)
   poll()
   db:exec "delete from t where id = 1"
   stepping.trigger(db, "prune", { older_than = "0s" })
   local words, result = poll(XMIN)
   lu.assertEquals(words, "read 2 3 4")
   lu.assertStrContains(result.stderr, "deletes that were not read yet were pruned: the table is")
   db:exec "delete from t where id = 2"
   lu.assertEquals(poll(XMIN), "delete 2")
end

return TestHandOver
