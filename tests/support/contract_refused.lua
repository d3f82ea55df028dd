-- contract_refused.lua: rows that a target never takes, among others that it takes.
-- SPDX-License-Identifier: MIT
--
-- Cases as those of contract_cases.lua, of drivers with `bad`.

local contract = require "contract"
local contract_case = require "contract_case"
local drivers = require "contract_drivers"
local files = require "files"
local json = require "json"
local lu = require "luaunit"
local program = require "program"
local scope = require "scope"
local tables = require "tables"

local refused = {}

-- First, last, among others, at both ends, all. Two of them do in a short run.
local PLACES = { "id = 1", "id = 30", "id in (14, 15)", "id in (1, 9, 30)", "true" }
local KILLS = contract.is_whole and 8 or 2

local function places()
   local rest = table.move(PLACES, 1, #PLACES, 1, {})
   while not contract.is_whole and #rest > 2 do
      table.remove(rest, math.random(#rest))
   end
   return rest
end

-- A case whose target refuses what is bad. `source`: fields of the source.
local function new_case(name, target, tag, source)
   local driver = drivers[name]
   if driver.prepare then
      driver.prepare(target, tag)
   end
   return contract_case.new(name, target, tag, { source = source, fields = driver.picky })
end

-- Runs it with --once, which must end with this status.
local function ends(case, status)
   local p = program.start(tables.merge(case.how, { options = { "--once" } }))
   local result = p:finish(case.driver.patience)
   lu.assertEquals({ result.status, result.signal }, { status }, result.stderr)
end

-- All rows get new versions; those for which the condition is true are bad.
local function spoil(case, condition)
   case.db:exec(("update t set v = nextval('versions'), name = case when %s then %s end"):format(
      condition, case.driver.bad))
end

-- The ids of rows for which a condition is true: a set.
local function ids(case, condition)
   local set = {}
   for _, row in ipairs(case.db:exec("select id from t where " .. condition)) do
      set[row[1]] = true
   end
   return set
end

-- Compares the rows that are not bad with what is in the target, where the others are not.
local function check_good(case, condition)
   local there = {}
   for _, change in ipairs(case.driver.read(case.target, case.tag)) do
      there[change.key .. " " .. tostring(change.v)] = true
   end
   local bad = ids(case, condition)
   for _, row in ipairs(case.db:exec "select id, v from t") do
      lu.assertEquals(there[row[1] .. " " .. row[2]] ~= true, bad[row[1]] == true,
         ("row %s where %s is bad"):format(row[1], condition))
   end
end

-- By default the program ends, and what is saved does not go beyond; when the row is good it goes
-- on.
function refused.refused_stop(name, target, tag)
   local case = new_case(name, target, tag)
   case:once()
   for _, place in ipairs(places()) do
      spoil(case, place)
      for _ = 1, 2 do
         ends(case, 1)
      end
      spoil(case, "false")
      case:once()
      case:check()
   end
end

-- First, last, among good ones, alone: the others are there.
function refused.refused_skip(name, target, tag)
   local case = new_case(name, target, tag, 'on_error = "skip"')
   case:once()
   for _, place in ipairs(places()) do
      spoil(case, place)
      ends(case, 0)
      check_good(case, place)
      spoil(case, "false")
      case:once()
      case:check()
   end
end

-- The id of the row of a dead letter.
local function id_of(change)
   local id = change.key and change.key.id or change.id
   return tostring(id):match "%d+$"
end

-- The same with dead letters, while the program is killed.
function refused.refused_dead_letter(name, target, tag)
   local path = scope.dir "letters" .. "/letters.jsonl"
   local case = new_case(name, target, tag, ([[on_error = "dead_letter",
      dead_letter = pgcdc.sinks.jsonl {path = %q, name = "letters"}]]):format(path))
   case:once()
   local letters = 0 -- that were there
   for _, place in ipairs(places()) do
      spoil(case, place)
      for _ = 1, KILLS do
         program.start(setmetatable({
            binary = program.binary() .. "-sabotaged", options = { "--once" },
            env = { SABOTAGE_CLASS = "files", SABOTAGE_HOW = "kill",
                    SABOTAGE_STEP = tostring(math.random(20, 90)) },
         }, { __index = case.how })):finish(30)
      end
      ends(case, 0)
      check_good(case, place)
      local left, lines = ids(case, place), files.lines(path)
      for i = letters + 1, #lines do
         local id = id_of(json.decode(lines[i]).change)
         lu.assertNotNil(left[id], ("a letter of row %s, again or of nothing"):format(id))
         left[id] = nil
      end
      lu.assertNil(next(left), "a row without a letter")
      letters = #lines
      spoil(case, "false")
      case:once()
      case:check()
   end
end

return refused
