-- operators_misuse_test.lua: what operators say to wrong arguments: which operator, which
-- argument, which line of the script.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local pipeline = require "pipeline"

local TestOperatorsMisuse = {}

-- Each case is a call on the stream s and what the message says after the line.
local function expect(cases)
   local script, expected = {}, {}
   for i, case in ipairs(cases) do
      script[i] = ("print(fails(function() local _ = s:%s end))"):format(case[1])
      expected[i] = ("script.lua:%d: %s"):format(i, case[2])
   end
   local lines = pipeline.run(table.concat(script, "\n"))
   for i, text in ipairs(expected) do
      lu.assertEquals(lines[i], text, cases[i][1])
   end
   lu.assertEquals(#lines, #expected)
end

function TestOperatorsMisuse.test_functions()
   expect {
      { "map()", "map: f must be a function, not nil" },
      { "map('x')", "map: f must be a function, not a string" },
      { "starmap()", "starmap: f must be a function, not nil" },
      { "filter(1)", "filter: f must be a function, not a number" },
      { "remove()", "remove: f must be a function, not nil" },
      { "tap({})", "tap: f must be a function, not a table" },
      { "accumulate()", "accumulate: f must be a function, not nil" },
      { "scan(true)", "scan: f must be a function, not a boolean" },
      { "branch()", "branch: f must be a function, not nil" },
      { "pluck()",
         "pluck: the field must be a string or a number or a function or a table, not nil" },
      { "pluck {}", "pluck: the list of fields is empty" },
      { "pluck { 'a', true }", "pluck: field 2 of the list must be a function or a string"
         .. " or a number, not a boolean" },
   }
end

function TestOperatorsMisuse.test_numbers()
   expect {
      { "slice(-1)", "slice: start must be a whole number, at least 0, not -1" },
      { "slice(0, 1.5)", "slice: stop must be a whole number, at least 0, not 1.5" },
      { "slice(0, 1, 0)", "slice: step must be a whole number, at least 1, not 0" },
      { "partition()", "partition: n must be a number, not nil" },
      { "partition(0)", "partition: n must be a whole number, at least 1, not 0" },
      { "partition_unique(2.5)",
         "partition_unique: n must be a whole number, at least 1, not 2.5" },
      { "sliding_window('2')", "sliding_window: n must be a number, not a string" },
      { "timed_window(0)",
         "timed_window: the time must be a number of seconds, at least 0.001, not 0" },
      { "timed_window_unique()", "timed_window_unique: the time must be a number, not nil" },
      { "delay(-1)", "delay: the time must be a number of seconds, at least 0.001, not -1" },
      { "rate_limit(false)", "rate_limit: the time must be a number, not a boolean" },
      { "buffer(0)", "buffer: n must be a whole number, at least 1, not 0" },
      { "unique { maxsize = 0 }", "unique: maxsize must be a whole number, at least 1, not 0" },
      { "unique { maxsize = 'many' }", "unique: maxsize must be a number, not a string" },
   }
end

function TestOperatorsMisuse.test_options()
   expect {
      { "partition(2, { timout = 1 })",
         "partition: unknown field 'timout'; did you mean 'timeout'?" },
      { "partition(2, { timeout = 0 })",
         "partition: timeout must be a number of seconds, at least 0.001, not 0" },
      { "partition(2, { key = true })",
         "partition: key must be a function or a string or a number, not a boolean" },
      { "partition(2, 5)", "partition: the options must be a table, not a number" },
      { "partition_unique(2, { keep = 'newest' })", "partition_unique: keep: unknown 'newest'"
         .. "; there are: first, last" },
      { "timed_window_unique(2, { keep = 'lst' })",
         "timed_window_unique: keep: unknown 'lst'; did you mean 'last'?" },
      { "sliding_window(2, { return_partial = 1 })",
         "sliding_window: return_partial must be a boolean, not a number" },
      { "accumulate(print, { returns_state = 'yes' })",
         "accumulate: returns_state must be a boolean, not a string" },
      { "accumulate(print, { with_state = 1 })",
         "accumulate: with_state must be a boolean, not a number" },
      { "accumulate(print, { state = 1 })",
         "accumulate: unknown field 'state'; did you mean 'start'?" },
      { "accumulate(print, { persist = '' })", "accumulate: persist must not be empty" },
      { "unique { maxsiz = 1 }", "unique: unknown field 'maxsiz'; did you mean 'maxsize'?" },
      { "reduce_by()", "reduce_by: key must be a function or a string or a number, not nil" },
      { "reduce_by('k')", "reduce_by: f must be a function, not nil" },
      { "reduce_by('k', print, { every = 0 })",
         "reduce_by: every must be a number of seconds, at least 0.001, not 0" },
      { "reduce_by('k', print, { evry = 1 })",
         "reduce_by: unknown field 'evry'; did you mean 'every'?" },
      { "reduce_by('k', print, { persist = 1 })",
         "reduce_by: persist must be a string, not a number" },
   }
end

function TestOperatorsMisuse.test_streams()
   expect {
      { "zip(nil)", "zip: stream 1 must be a stream, not nil" },
      { "zip(s, {})", "zip: stream 2 must be a stream, not a table" },
      { "zip_latest(1)", "zip_latest: stream 1 must be a stream, not a number" },
      { "union('s')", "union: stream 1 must be a stream, not a string" },
      { "combine_latest(s, { emiton = s })",
         "combine_latest: unknown field 'emiton'; did you mean 'emit_on'?" },
      { "combine_latest(s, { emit_on = 1 })",
         "combine_latest: emit_on must be a table, not a number" },
      { "combine_latest(s, { emit_on = {} })", "combine_latest: emit_on names no stream" },
      { "combine_latest(s, { emit_on = pgcdc.stream {} })",
         "combine_latest: emit_on names something that is not one of the streams" },
      { "map(print).map()", "map: call it as stream:map(...)" },
      { "map(print).zip()", "zip: call it as stream:zip(...)" },
      { "map(print).branch(print)", "branch: call it as stream:branch(f)" },
      { "connect()", "connect: the stream must be a stream, not nil" },
   }
end

function TestOperatorsMisuse.test_ends()
   expect {
      { "sink()",
         "sink: its argument must be a function or a sink, a table with a function `write`,"
         .. " not nil" },
      { "sink({})", "sink: its argument must be a function or a sink, a table with a function"
         .. " `write`, not a table without one" },
      { "sink(s)", "sink: its argument must be a function or a sink, a table with a function"
         .. " `write`, not a stream: use connect" },
      { "sink({ write = print, flush = 1 })",
         "sink: its argument: its flush must be a function, not a number" },
      { "sink({ write = print, name = '' })", "sink: its argument: its name must not be empty" },
      { "sink({ write = print }, 1)",
         "sink: further arguments are for functions, not for sinks" },
      { "sink_to_textfile()", "sink_to_textfile: path must be a string, not nil" },
      { "sink_to_textfile('x', { apend = true })",
         "sink_to_textfile: unknown field 'apend'; did you mean 'append'?" },
      { "sink_to_textfile('x', { append = 'yes' })",
         "sink_to_textfile: append must be a boolean, not a string" },
      { "route()", "route: f must be a function or a string or a number, not nil" },
      { "route('x')", "route: the targets must be a table, not nil" },
      { "route('x', s)",
         "route: the targets must be a table from names to streams or sinks, not a stream" },
      { "route('x', {})", "route: there are no targets, and no default" },
      { "route('x', { a = 1 })", "route: the target 'a' must be a function or a sink, a table with"
         .. " a function `write`, not a number" },
      { "route('x', {}, { default = {} })", "route: the default must be a function or a sink, a"
         .. " table with a function `write`, not a table without one" },
      { "route('x', {}, { otherwise = s })", "route: unknown field 'otherwise'; there are: "
         .. "default" },
   }
end

-- Wrong values are told of when they come, with the line that emitted them.
function TestOperatorsMisuse.test_values()
   local lines = pipeline.run [[
      local function wrong(build, x)
         local t = pgcdc.stream {}
         build(t)
         print(fails(function() t:emit(x) end))
      end
      wrong(function(t) t:starmap(print) end, 1)
      wrong(function(t) t:flatten() end)
      wrong(function(t) t:concat() end, "text")
      wrong(function(t) t:reduce_by("k", function() end, { start = 1 }) end, {})]]
   lu.assertEquals(lines, {
      "script.lua:4: starmap: the value must be a list, not a number",
      "script.lua:4: flatten: the value must be a list, not nil",
      "script.lua:4: concat: the value must be a list, not a string",
      "script.lua:4: reduce_by: f returned nil instead of a state",
   })
end

-- A misuse leaves no half-made stream.
function TestOperatorsMisuse.test_nothing_is_attached()
   lu.assertEquals(pipeline.run [[
      local stream = require "pgcdc.stream.stream"
      local before = #stream.nodes
      for _, f in ipairs {
         function() s:map() end, function() s:zip(s, 1) end, function() s:union(1) end,
         function() s:combine_latest(s, { emit_on = 1 }) end, function() s:partition() end,
         function() s:branch() end, function() s:sink() end,
         function() s:route("x", { a = s, b = 1 }) end } do
         fails(f)
      end
      print(#stream.nodes - before, #s:downstreams(), #s:upstreams())]], { "0\t0\t0" })
end

return TestOperatorsMisuse
