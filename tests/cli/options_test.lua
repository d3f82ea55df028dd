-- options_test.lua: pgcdc.options and pgcdc.args: NAME=VALUE words, declared and checked.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local program = require "program"

local TestOptions = {}

local SCRIPT = [[
   local o = pgcdc.options {
      table = pgcdc.required,
      where = "",
      tag = "none",
      interval = 10,
      factor = 0.5,
      verbose = false,
      quiet = true,
   }
   local names = {}
   for name in pairs(o) do names[#names + 1] = name end
   table.sort(names)
   for _, name in ipairs(names) do
      local value = o[name]
      print(name, math.type(value) or type(value), value)
   end]]

local function run(...)
   return program.run { script = SCRIPT, args = { ... } }
end

function TestOptions.test_defaults()
   local result = run "table=orders"
   lu.assertEquals(result.status, 0)
   lu.assertEquals(result.lines, {
      "factor\tfloat\t0.5", "interval\tinteger\t10", "quiet\tboolean\ttrue",
      "table\tstring\torders", "tag\tstring\tnone", "verbose\tboolean\tfalse", "where\tstring\t",
   })
end

-- A value has the type of the default; a string is taken as it stands.
function TestOptions.test_values()
   local result = run("table=a=b c", "interval=0.25", "factor=3", "verbose=yes", "quiet=off",
                      "tag=", "where=id > 7")
   lu.assertEquals(result.lines, {
      "factor\tinteger\t3", "interval\tfloat\t0.25", "quiet\tboolean\tfalse",
      "table\tstring\ta=b c", "tag\tstring\t", "verbose\tboolean\ttrue", "where\tstring\tid > 7",
   })
   for word, value in pairs {
      ["true"] = true, yes = true, on = true, ["1"] = true, TRUE = true, Yes = true,
      ["false"] = false, no = false, off = false, ["0"] = false, OFF = false,
   } do
      result = run("table=x", "verbose=" .. word)
      lu.assertStrContains(result.stdout, "verbose\tboolean\t" .. tostring(value) .. "\n")
   end
   lu.assertStrContains(run("table=x", "interval=-1e3").stdout, "interval\tfloat\t-1000.0\n")
   lu.assertStrContains(run("table=x", "table=y").stdout, "table\tstring\ty\n")
end

local function check_usage(words, complaints)
   local result = run(table.unpack(words))
   lu.assertEquals(result.status, 2)
   lu.assertEquals(result.stdout, "")
   lu.assertStrMatches(result.stderr, "pgcdc%-lua: [^\n]*\n") -- one line, no traceback
   for _, complaint in ipairs(complaints) do
      lu.assertStrContains(result.stderr, complaint)
   end
   return result
end

function TestOptions.test_complaints()
   check_usage({}, { "table=... is required" })
   check_usage({ "table=" }, { "table must not be empty" })
   check_usage({ "table=t", "tabel=u" }, { "unknown option tabel; did you mean 'table'?" })
   check_usage({ "table=t", "zzzzzzzzz=u" }, { "unknown option zzzzzzzzz" })
   check_usage({ "table=t", "interval=soon" }, { "interval must be a number, not 'soon'" })
   check_usage({ "table=t", "interval=" }, { "interval must be a number, not ''" })
   check_usage({ "table=t", "interval=nan" }, { "interval must be a number" })
   check_usage({ "table=t", "interval=inf" }, { "interval must be a number" })
   check_usage({ "table=t", "interval=1e999" }, { "interval must be a number" })
   check_usage({ "table=t", "verbose=maybe" }, { "verbose must be true or false, not 'maybe'" })
   check_usage({ "table=t", "verbose=" }, { "verbose must be true or false, not ''" })
end

-- All that is wrong is told at once, not one thing after another.
function TestOptions.test_all_complaints_in_one()
   check_usage({ "intervall=3", "interval=x", "factor=y", "verbose=z", "other=1" }, {
      "unknown option intervall; did you mean 'interval'?", "unknown option other",
      "interval must be a number, not 'x'", "factor must be a number, not 'y'",
      "verbose must be true or false, not 'z'", "table=... is required",
   })
   local many = {}
   for i = 1, 30 do
      many[i] = "unexpected_and_rather_long_" .. i .. "=1"
   end
   check_usage(many, { "unexpected_and_rather_long_1;", "unexpected_and_rather_long_30",
                       "table=... is required" })
end

-- Without pgcdc.options any word is allowed, as text, in pgcdc.args.
function TestOptions.test_args()
   local result = program.run { args = { "x=1", "y=" }, script = [[
      print(pgcdc.args.x, pgcdc.args.y, pgcdc.args.z, math.type(pgcdc.args.x))]] }
   lu.assertEquals(result.stdout, "1\t\tnil\tnil\n")
   result = program.run { script = "pgcdc.options {} print 'fine'" }
   lu.assertEquals(result.stdout, "fine\n")
   result = program.run { script = "pgcdc.options {} print 'fine'", args = { "x=1" } }
   lu.assertEquals(result.status, 2)
end

return TestOptions
