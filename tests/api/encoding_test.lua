-- encoding_test.lua: databases whose encoding is not UTF-8, on either side.
-- SPDX-License-Identifier: MIT
--
-- Everything the program says is UTF-8, names and keys too; what cannot be that is an error that
-- names the source, and comes once it is mended. See values_test.lua for every type's values.

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local program = require "program"

local TestEncoding = {}

-- Each with a word that it can write.
local words = { LATIN1 = "été", WIN1252 = "œuf€", EUC_JP = "日本", EUC_KR = "한국", SQL_ASCII = "é🐘" }

-- SQL in which WORD is a word of the database's.
local function exec(db, word, sql)
   local conn = db:connect { client_encoding = "UTF8" }
   local rows = conn:exec((sql:gsub("WORD", word)))
   conn:close()
   return rows
end

local function create(db, word)
   exec(db, word, [[
      create table "tWORD" ("kWORD" text primary key, "WORD" text, list text[], n int);
      insert into "tWORD" select 'WORD' || i, 'WORD', array['WORD', '"'], i
         from generate_series(1, 5) i]])
end

-- What the changes are about: "op key text", in their order.
local function heard(result, word)
   lu.assertEquals(result.status, 0, result.stderr)
   lu.assertNotNil(utf8.len(result.stdout .. result.stderr))
   local list = {}
   for i, change in ipairs(result.changes) do
      local row = change.row ~= json.null and change.row or change.old
      lu.assertEquals(change.table, "t" .. word)
      lu.assertEquals(change.key["k" .. word], row["k" .. word])
      lu.assertEquals(row.list, { word, '"' })
      list[i] = ("%s %s %s"):format(change.op, row["k" .. word], row[word]):gsub(word, "WORD")
   end
   return table.concat(list, ", ")
end

-- The snapshot, then a poll that has to find rows by their keys, stop at one of them and go on.
for encoding, word in pairs(words) do
   TestEncoding["test_changes_and_deletes_of_" .. encoding:lower()] = function()
      local db = fixtures.encoded(encoding)
      create(db, word)
      local state = fixtures.state()
      local function again(stop_at)
         return program.run { dsn = db, state = state, options = { "--once" }, script = ([[
            pgcdc.source {
               table = '"tWORD"', deletes = true, old = true, where = [=["WORD" <> 'xWORD']=],
               on_change = function(change)
                  print(change)
                  if change.row and change.row.kWORD == "%s" then pgcdc.stop() end
               end,
            }]]):gsub("kWORD", 'kWORD"]'):gsub("row%.k", 'row["k'):format(stop_at or "none")
            :gsub("WORD", word) }
      end
      lu.assertEquals(heard(again(), word), "read WORD1 WORD, read WORD2 WORD, read WORD3 WORD, "
         .. "read WORD4 WORD, read WORD5 WORD")
      exec(db, word, [[update "tWORD" set "WORD" = 'WORDWORD' where n in (1, 2, 4);
         update "tWORD" set "WORD" = 'xWORD' where n = 5; delete from "tWORD" where n = 3]])
      lu.assertEquals(heard(again(word .. "2"), word), "delete WORD3 WORD, delete WORD5 WORD, "
         .. "update WORD1 WORDWORD, update WORD2 WORDWORD")
      lu.assertEquals(heard(again(), word), "update WORD4 WORDWORD")
      lu.assertEquals(heard(again(), word), "")
   end
end

-- Rows, names and keys arrive in databases of other encodings; what one of them cannot write is
-- refused with the server's own words, and nothing of that flush is there.
function TestEncoding.test_mirror_between_encodings()
   for _, pair in ipairs {
      { "LATIN1", "UTF8" }, { "UTF8", "LATIN1", "été" }, { "EUC_JP", "UTF8" },
      { "LATIN1", "WIN1252" },
      { "SQL_ASCII", "UTF8" }, { "LATIN1", "SQL_ASCII" }, { "EUC_JP", "LATIN1" },
   } do
      local what, word = pair[1] .. " to " .. pair[2], pair[3] or words[pair[1]]
      local source, target = fixtures.encoded(pair[1]), fixtures.encoded(pair[2])
      create(source, word)
      local state = fixtures.state()
      local function again()
         return program.run { dsn = source, state = state, bundled = "mirror",
            options = { "--once" },
                              args = { table = ('"t%s"'):format(word), target = target:dsn() } }
      end
      local result = again()
      if pair[1] == "EUC_JP" and pair[2] == "LATIN1" then
         lu.assertEquals(result.status, 1, what)
         lu.assertStrContains(result.stderr, "mirror \\\"t日本\\\"")
         lu.assertStrContains(result.stderr, "has no equivalent in encoding \\\"LATIN1\\\" (22P05)")
         lu.assertEquals(target:value [[select count(*) from pg_class
            where relnamespace = 'public'::regnamespace and relname like 't%']], "0")
      else
         lu.assertEquals(result.status, 0, what .. result.stderr)
         exec(source, word, [[update "tWORD" set "WORD" = 'new WORD' where "kWORD" = 'WORD2']])
         lu.assertEquals(again().status, 0, what)
         local sql = [[select "kWORD", "WORD", list::text, n from "tWORD" order by 1]]
         lu.assertEquals(exec(target, word, sql), exec(source, word, sql), what)
      end
   end
end

-- Bytes that are no text: the error names source and column, what came before it is delivered
-- once, and what comes after it when the row is mended.
function TestEncoding.test_bytes_that_are_no_text()
   local db = fixtures.encoded "SQL_ASCII"
   db:exec "create table t (id int primary key, a text, b text); insert into t values (1, 'x', 'y')"
   local state = fixtures.state()
   local function again()
      return program.run { dsn = db, state = state, options = { "--once" }, script = [[
         pgcdc.source {table = "t", deletes = true, on_change = print}]] }
   end
   lu.assertEquals(again().changes[1].key.id, 1)
   db:exec "insert into t values (2, 'x', 'y')"
   db:exec [[insert into t values (3, 'x', E'y\xc3'), (4, 'x', 'y')]]
   local ids, result = {}, again()
   lu.assertEquals(result.status, 3)
   lu.assertNotNil(utf8.len(result.stdout .. result.stderr))
   lu.assertStrContains(result.stderr, "source public.t: column b: ")
   lu.assertStrContains(result.stderr, "sqlstate=22021")
   for _, change in ipairs(result.changes) do
      ids[#ids + 1] = change.key.id
   end
   db:exec "update t set b = 'mended' where id = 3"
   for _, change in ipairs(again().changes) do
      ids[#ids + 1] = change.key.id
   end
   table.sort(ids)
   lu.assertEquals(ids, { 2, 3, 4 })
end

return TestEncoding
