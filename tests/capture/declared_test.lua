-- declared_test.lua: a script names another condition, other columns or another key.
-- SPDX-License-Identifier: MIT

local fixtures = require "fixtures"
local lu = require "luaunit"
local once = require "once"

local TestDeclared = {}

-- What the log warns of, where the source has these fields besides its table.
local function warnings(db, state, fields)
   local result = once.ok { dsn = db, state = state,
      script = ('pgcdc.source {table = "t", on_change = print, %s}'):format(fields) }
   local list = {}
   for line in result.stderr:gmatch 'level=warn msg="([^\n]*)' do
      list[#list + 1] = line:match "^%w+="
      lu.assertStrContains(line, "--reset=public.t reads the table again")
   end
   return table.concat(list, " ")
end

function TestDeclared.test_what_has_changed_is_said_once()
   local db = fixtures.database [[create table t (id int primary key, a text not null unique,
      b text); insert into t values (1, 'x', 'y'), (2, 'z', 'w')]]
   local state = fixtures.state()
   local function say(fields)
      return warnings(db, state, fields)
   end
   lu.assertEquals(say "", "")
   lu.assertEquals(say "", "")
   lu.assertEquals(say "where = 'id > 1'", "where=")
   lu.assertEquals(say "where = 'id > 1'", "")
   lu.assertEquals(say "where = 'id > 2', columns = {'id', 'a'}", "where= columns=")
   lu.assertEquals(say "where = 'id > 2', columns = {'id', 'a'}, interval = 5", "")
   lu.assertEquals(say "where = 'id > 2', columns = {'id', 'a'}, pk = 'a'", "pk=")
   lu.assertEquals(say "", "where= columns= pk=")
end

-- After a reset nothing is compared.
function TestDeclared.test_reset()
   local db = fixtures.database "create table t (id int primary key); insert into t values (1)"
   local state = fixtures.state()
   once.ok { dsn = db, state = state, script = 'pgcdc.source {table = "t", on_change = print}' }
   local result = once.ok { dsn = db, state = state, options = { "--reset=t" },
      script = 'pgcdc.source {table = "t", where = "id > 0", on_change = print}' }
   lu.assertNotStrContains(result.stderr, "level=warn")
   lu.assertEquals(#result.changes, 1)
end

return TestDeclared
