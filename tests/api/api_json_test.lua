-- api_json_test.lua: pgcdc.json, pgcdc.array, pgcdc.null and pgcdc.log.
-- SPDX-License-Identifier: MIT

local json = require "json"
local lu = require "luaunit"
local program = require "program"

local TestApiJson = {}

-- The lines that the script prints; it must end well.
local function run(script, ...)
   local result = program.run { script = script, options = { ... } }
   lu.assertEquals(result.status, 0)
   return result.lines, result.stderr
end

-- Prints what encode makes of each expression.
local function encode(expressions)
   local script = { "local array, null = pgcdc.array, pgcdc.null" }
   for _, expression in ipairs(expressions) do
      script[#script + 1] = ("print(pgcdc.json.encode(%s))"):format(expression)
   end
   return run(table.concat(script, "\n"))
end

-- Encoding -------------------------------------------------------------------------------------

function TestApiJson.test_encode_scalars()
   lu.assertEquals(encode {
      "nil", "null", "true", "false", "0", "-1", "math.maxinteger", "math.mininteger",
      "1.5", "1.0", "0.1", "-0.0", "1e300", "5e-324", "2^53", "1/3",
      "0/0", "1/0", "-1/0",
      "''", [['a"b\\c/d']], [['\0\1\b\f\n\r\t\31 \127']], "'é😀\u{ffff}\u{10ffff}'",
   }, {
      "null", "null", "true", "false", "0", "-1", "9223372036854775807", "-9223372036854775808",
      "1.5", "1.0", "0.1", "-0.0", "1e+300", "4.94065645841247e-324", "9007199254740992.0",
      "0.3333333333333333",
      '"NaN"', '"Infinity"', '"-Infinity"',
      '""', [["a\"b\\c/d"]], [["\u0000\u0001\b\f\n\r\t\u001f ]] .. '\127"',
      '"é😀\u{ffff}\u{10ffff}"',
   })
end

-- Every float reads back as the same number.
function TestApiJson.test_floats_survive()
   lu.assertEquals(run [[
      math.randomseed(1)
      local n = 0
      for _ = 1, 20000 do
         local x = string.unpack("d", string.pack("I8", math.random(0)))
         if x == x and x ~= math.huge and x ~= -math.huge then
            local back = pgcdc.json.decode(pgcdc.json.encode(x))
            assert(back == x, x)
            n = n + 1
         end
      end
      print(n > 19000)]], { "true" })
end

-- A sequence is an array, all else an object with sorted keys; an empty table is an object.
function TestApiJson.test_encode_tables()
   lu.assertEquals(encode {
      "{}", "array{}", "array()", "{1, 2, 3}", "array{1, {}}", "{null}", "{{}, array{}}",
      "{b = 1, a = 2, ['a b'] = 3, A = 4, ['é'] = 5, [''] = 6, aa = 7}",
      "{list = {1, {x = {true}}}, none = null}",
      "setmetatable({1, 2}, {})", "setmetatable({a = 1}, {__index = {b = 2}})",
   }, {
      "{}", "[]", "[]", "[1,2,3]", "[1,{}]", "[null]", "[{},[]]",
      '{"":6,"A":4,"a":2,"a b":3,"aa":7,"b":1,"é":5}',
      '{"list":[1,{"x":[true]}],"none":null}', "[1,2]", '{"a":1}',
   })
   lu.assertEquals(run [[
      local first
      for _ = 1, 50 do -- the order of a table's pairs depends on how it grew
         local t = {}
         for i = 1, 200 do t["k" .. math.random(1000000) .. i] = i end
         for k in pairs(t) do t[k] = nil end
         for i = 1, 50 do t["key" .. (i * 7 % 50)] = i * 7 % 50 end
         local text = pgcdc.json.encode(t)
         first = first or text
         assert(text == first)
      end
      print(pgcdc.array({1, 2}) ~= nil, select("#", pgcdc.array()))]], { "true\t1" })
end

function TestApiJson.test_what_cannot_be_encoded()
   local cases = {
      { [['\xff']], "not valid UTF-8" }, { [[{a = 'x\xc3'}]], "not valid UTF-8" },
      { [[{['\xed\xa0\x80'] = 1}]], "not valid UTF-8" }, { [['\xc0\x80']], "not valid UTF-8" },
      { [['\xf4\x90\x80\x80']], "not valid UTF-8" },
      { "print", "a function" }, { "{io.stdout}", "a userdata" },
      { "{coroutine.create(print)}", "a thread" },
      { "{[1.5] = 1}", "a key that is a number" }, { "{1, 2, x = 3}", "a key that is a number" },
      { "{[1] = 1, [3] = 3}", "a key that is a number" },
      { "{[true] = 1}", "a key that is a boolean" },
      { "(function() local t = {} t.t = t return t end)()", "nested too deep" },
      { "(function() local t = {} for _ = 1, 1000000 do t = {t} end return t end)()",
        "nested too deep" },
   }
   local script = {}
   for _, case in ipairs(cases) do
      script[#script + 1] = ("print(pcall(pgcdc.json.encode, %s))"):format(case[1])
   end
   local lines = run(table.concat(script, "\n") .. "\nprint(pcall(pgcdc.json.encode))")
   for i, case in ipairs(cases) do
      lu.assertStrMatches(lines[i], "false\t.*")
      lu.assertStrContains(lines[i], case[2])
   end
   lu.assertStrContains(lines[#cases + 1], "value expected")
end

-- Decoding -------------------------------------------------------------------------------------

function TestApiJson.test_decode()
   lu.assertEquals(run [==[
      local decode = pgcdc.json.decode
      print(decode "1", math.type(decode "1"), decode "1.0", math.type(decode "1.0"))
      print(decode "9223372036854775807", decode "-9223372036854775808", decode "1e2")
      print(decode "true", decode "false", decode "null" == pgcdc.null, decode '"x"')
      print(decode [["\u0041\ud83d\ude00\n\/"]], #decode [["a\u0000b"]])
      print(#decode "[]", decode " [1, [2]] "[2][1], decode '{"a": {"b": [null]}}'.a.b[1])
      print(pgcdc.json.encode(decode '[]'), pgcdc.json.encode(decode '{}'))
      print(pgcdc.json.encode(decode '{"b":[[],{}],"a":null}'))
      local deep = ("["):rep(400) .. ("]"):rep(400)
      print(pgcdc.json.encode(decode(deep)) == deep)
      print(decode '{"a":1,"a":2}'.a)]==], {
      "1\tinteger\t1.0\tfloat", "9223372036854775807\t-9223372036854775808\t100.0",
      "true\tfalse\ttrue\tx", "A😀", "/\t3", "0\t2\tnull", "[]\t{}", '{"a":null,"b":[[],{}]}',
      "true", "2",
   })
end

-- Expected failures return nil and a message, misuse raises.
function TestApiJson.test_what_cannot_be_decoded()
   local texts = {
      "", " ", "{", "[1,]", "{'a':1}", "nul", "1 2", "01", "NaN", '"\xff"', '"\n"', '"\\x"',
      '"\\ud800"', "[1}", '{"a"}', "\xef\xbb\xbf1", "{99999999999999999999:1}", "[1e999", "[",
      ("["):rep(100000),
   }
   local script = {}
   for _, text in ipairs(texts) do
      script[#script + 1] = ("print(pcall(pgcdc.json.decode, %q))"):format(text)
   end
   local lines = run(table.concat(script, "\n") .. "\nprint(pcall(pgcdc.json.decode))")
   for i, text in ipairs(texts) do
      lu.assertStrMatches(lines[i], "true\tnil\t..+", nil, nil, text)
   end
   lu.assertStrContains(lines[#lines], "string expected")
end

-- Logs -----------------------------------------------------------------------------------------

local LOGGING = [==[
   pgcdc.log.info "plain"
   pgcdc.log.warn("fields", {text = "two words"})
   pgcdc.log.error("e", {n = 42})
   pgcdc.log.info("f", {f = 1.5})
   pgcdc.log.info("b", {b = true})
   pgcdc.log.info("bare", {b = "one"})
   pgcdc.log.info("empty", {e = ""})
   pgcdc.log.info("odd", {["a key=\"x\""] = 'q"uote\\ \n\t\1'})
   pgcdc.log.info("table", {t = {b = {1, 2}, a = pgcdc.null}})
   pgcdc.log.info("null", {n = pgcdc.null})
   pgcdc.log.info("list", {"first"})
   pgcdc.log.info("é line\nbreak", {})
   pgcdc.log.info(42)
   pgcdc.log.info(setmetatable({}, {__tostring = function() return "called" end}))
   pgcdc.log.info("nan", {n = 0/0})]==]

function TestApiJson.test_log_text()
   local _, stderr = run(LOGGING)
   local lines = {}
   for line in stderr:gmatch "[^\n]+" do
      lines[#lines + 1] = line:gsub("^ts=[%d%-T:.]+Z ", "")
   end
   lu.assertEquals(lines, {
      'level=info msg="plain"',
      'level=warn msg="fields" text="two words"',
      'level=error msg="e" n=42',
      'level=info msg="f" f=1.5',
      'level=info msg="b" b=true',
      'level=info msg="bare" b=one',
      'level=info msg="empty" e=""',
      [[level=info msg="odd" a_key__x_="q\"uote\\ \n\t\u0001"]],
      [[level=info msg="table" t="{\"a\":null,\"b\":[1,2]}"]],
      'level=info msg="null" n=null',
      'level=info msg="list" 1=first',
      [[level=info msg="é line\nbreak"]],
      'level=info msg="42"',
      'level=info msg="called"',
      lines[15],
   })
   lu.assertStrMatches(lines[15], 'level=info msg="nan" n=%-?nan')
end

-- One valid JSON object a line, whatever is logged, and numbers are numbers.
function TestApiJson.test_log_json()
   local _, stderr = run(LOGGING .. [[
      pgcdc.log.info("bytes \xff", {["k\xff"] = "v\xff\0"})]], "--log-format=json")
   local entries = {}
   for line in stderr:gmatch "[^\n]+" do
      entries[#entries + 1] = json.decode(line)
   end
   lu.assertEquals(#entries, 16)
   lu.assertEquals(entries[2].text, "two words")
   lu.assertEquals({ entries[3].level, entries[3].n }, { "error", 42 })
   lu.assertEquals(entries[4].f, 1.5)
   lu.assertEquals(entries[5].b, true)
   lu.assertEquals(entries[7].e, "")
   lu.assertEquals(entries[8]['a key="x"'], 'q"uote\\ \n\t\1')
   lu.assertEquals(entries[11]["1"], "first")
   lu.assertEquals(entries[12].msg, "é line\nbreak")
   lu.assertEquals(json.keys(entries[12]), { "ts", "level", "msg" })
end

-- Fields stand in a fixed order, as keys do in JSON: logs are compared and searched.
function TestApiJson.test_order_of_fields()
   for _, format in ipairs { "text", "json" } do
      local _, stderr = run([[
         for _ = 1, 20 do
            local t = {}
            for i = 1, 40 do t["x" .. math.random(1000)] = true end
            for k in pairs(t) do t[k] = nil end
            t.d, t.a, t.c, t.b = 1, 2, 3, 4
            pgcdc.log.info("m", t)
         end]], "--log-format=" .. format)
      for line in stderr:gmatch "[^\n]+" do
         lu.assertStrMatches(line, ".*a.-2.-b.-4.-c.-3.-d.-1.*")
      end
   end
end

-- A level that is not shown costs no more than the call, and what it is given does not matter.
function TestApiJson.test_a_level_that_is_not_shown()
   local _, stderr = run([[
      pgcdc.log.debug("x", {print})
      pgcdc.log.info("x", {a = setmetatable({}, {__tostring = error})})]], "--log-level=error")
   lu.assertEquals(stderr, "")
end

return TestApiJson
