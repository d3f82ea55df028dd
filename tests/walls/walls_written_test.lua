-- walls_written_test.lua: what the program writes cannot be forged, nor turned against it.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local server = require "server"

local TestWallsWritten = {}

-- ---- log lines ----

-- What a terminal or an editor would obey, or show elsewhere than it stands: controls, direction
-- marks, line separators.
local ODD = {}
for _, c in ipairs { 0x01, 0x07, 0x0d, 0x1b, 0x7f, 0x80, 0x85, 0x9b, 0x9f, 0x61c, 0x200e, 0x200f,
                     0x2028, 0x2029, 0x202a, 0x202e, 0x2066, 0x2069, 0xfeff, 0xfff9 } do
   ODD[#ODD + 1] = utf8.char(c)
end

local function assert_plain(text)
   for _, c in ipairs(ODD) do
      lu.assertNil((text:find(c, 1, true)), ("U+%04X in %q"):format(utf8.codepoint(c), text))
   end
end

-- A script's keys, also those of a row, cannot stand in for what the program says.
function TestWallsWritten.test_keys_of_scripts()
   local db = fixtures.database [[create table t (id int primary key, level text, msg text, ts text,
      source text, traceback text); insert into t values (1, 'error', 'forged', 'never', 'x', 'y')]]
   for _, format in ipairs { "text", "json" } do
      local result = program.run { dsn = db, options = { "--once", "--log-format", format },
         script = [[pgcdc.source {table = "t", on_change = function(c)
               pgcdc.log.info("a row", c.row)
               pgcdc.log.info("NUL", {["level\0"] = 1, ["msg"] = 2})
            end}]] }
      lu.assertEquals(result.status, 0, result.stderr)
      local n = 0
      for line in result.stderr:gmatch "[^\n]+" do
         if line:find "a row" then
            n = n + 1
            local expected = format == "json" and '"field_level":"error","field_msg":"forged",'
               .. '"field_ts":"never","field_source":"x","field_traceback":"y"}'
               or "field_level=error field_msg=forged field_ts=never field_source=x "
               .. "field_traceback=y"
            lu.assertStrContains(line, expected)
         elseif line:find "NUL" then
            n = n + 1
            lu.assertStrContains(line, format == "json" and '"field_level":1,"field_msg":2}'
               or " field_level=1 field_msg=2")
         end
      end
      lu.assertEquals(n, 2)
   end
end

-- Neither do texts: of a script, of names on the server, of the command line.
function TestWallsWritten.test_odd_characters()
   local all = table.concat(ODD)
   local db = fixtures.database ""
   local name = "odd" .. all .. "\nts=2026-01-01T00:00:00.000Z level=info msg=forged"
   name = name:sub(1, utf8.offset(name, utf8.len(name) // 1 < 40 and -1 or 40) - 1)
   local quoted = '"' .. name:gsub('"', '""') .. '"'
   db:exec(("create table %s (id int primary key); insert into %s values (1)")
      :format(quoted, quoted))
   for _, format in ipairs { "text", "json" } do
      local result = program.run { dsn = db, options = { "--once", "--log-format", format },
         script = ([[
            local name = %q
            pgcdc.source {table = '"' .. name .. '"', on_change = function(c)
               pgcdc.log.info("text " .. name, {key = name, ["k" .. name] = 1, t = {name}})
               error("thrown " .. name)
            end}]]):format(name) }
      lu.assertEquals(result.status, 1)
      assert_plain(result.stderr)
      for line in result.stderr:gmatch "[^\n]+" do
         if format == "json" then
            lu.assertNotNil(json.decode(line))
         else
            lu.assertStrMatches(line, "ts=%d%d%d%d%-.*")
         end
      end
   end
   local usage = program.run { dsn = db, bundled = "jsonl", args = { "x\27]0;y\7\u{202e}=1" } }
   lu.assertEquals(usage.status, 2)
   assert_plain(usage.stderr)
   local check = program.run { dsn = db, options = { "--check" },
      script = ("pgcdc.source {table = '\"' .. %q .. '\"'}"):format(name) }
   lu.assertEquals(check.status, 0, check.stderr)
   assert_plain(check.stdout)
end

-- ---- the state file ----

local function sqlite(path, sql)
   local p = assert(io.popen(("sqlite3 '%s' \"%s\" 2>&1"):format(path, sql)))
   local text = p:read "a"
   lu.assertTrue(p:close(), text)
end

-- A file in which somebody left something that would run, or that is not what we made, is refused.
function TestWallsWritten.test_a_state_file_of_somebody_else()
   local db = fixtures.names(2)
   local function run(state)
      return program.run { dsn = db, state = state, options = { "--once" }, script = [[
         pgcdc.source {table = "t", deletes = true, on_change = function(c) print(c.key.id) end}]] }
   end
   for _, sql in ipairs {
      "CREATE TRIGGER x AFTER INSERT ON kept BEGIN DELETE FROM kept; END",
      "CREATE VIEW x AS SELECT 1",
      "CREATE INDEX x ON kept (value)",
      "CREATE TABLE x (y)",
      "CREATE TABLE known_1 (id INTEGER PRIMARY KEY DEFAULT (abs(1)))",
      "ALTER TABLE kept ADD COLUMN more TEXT",
      "ALTER TABLE kept RENAME TO k; CREATE VIEW kept AS SELECT * FROM k",
      "CREATE VIRTUAL TABLE x USING fts5(y)",
   } do
      local state = fixtures.state()
      lu.assertEquals(run(state).lines, { "1", "2" })
      lu.assertEquals(run(state).status, 0)
      sqlite(state, sql)
      local result = run(state)
      lu.assertEquals(result.status, 4, sql)
      lu.assertStrContains(result.stderr, "holds something that pgcdc-lua did not make")
   end
end

function TestWallsWritten.test_a_state_file_that_is_a_link()
   local db, dir = fixtures.names(1), scope.dir()
   os.execute(("ln -s '%s/real.db' '%s/link.db'"):format(dir, dir))
   local result = program.run { dsn = db, state = dir .. "/link.db", options = { "--once" },
      script = 'pgcdc.source {table = "t"}' }
   lu.assertEquals(result.status, 4)
   lu.assertStrContains(result.stderr, "is a symbolic link, which is not followed")
end

-- ---- the program itself ----

-- The table of imported functions is read-only from the start.
function TestWallsWritten.test_relocations_are_read_only()
   local p = assert(io.popen("readelf -dlW '" .. program.binary() .. "'"))
   local text = p:read "a"
   p:close()
   lu.assertStrContains(text, "GNU_RELRO")
   lu.assertStrContains(text, "BIND_NOW")
end

-- No core dump, and no other process of the user looks into its memory.
function TestWallsWritten.test_memory_is_shut()
   lu.skipIf(os.getenv "TSAN_OPTIONS" or os.getenv "ASAN_OPTIONS", "a sanitizer looks into it")
   local user = server.user()
   local db = fixtures.names(1)
   local p = program.start { dsn = db, user = user, script = 'pgcdc.source {table = "t"}' }
   p:wait_stderr '"ready"'
   local f = assert(io.popen(("stat -c %%U /proc/%d/mem"):format(p:pid())))
   lu.assertEquals(f:read "l", "root") -- and not the user, where the program is dumpable
   f:close()
   lu.assertEquals(p:stop().status, 0)
end

return TestWallsWritten
