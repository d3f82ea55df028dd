-- operators_graph_test.lua: the pipeline as Graphviz text.
-- SPDX-License-Identifier: MIT

local lu = require "luaunit"
local pipeline = require "pipeline"

local TestOperatorsGraph = {}

function TestOperatorsGraph.test_dot()
   local lines = pipeline.run [[
      local graph = require "pgcdc.stream.graph"
      local odd = pgcdc.stream { name = 'a "name" \\ of\n\27[1m' }
      local doubled = odd:map(function(x)
         return x * 2
      end)
      doubled:pluck { "id", function() end }:sink { name = "file", write = print }
      doubled:filter():connect(odd)
      local target = pgcdc.stream { name = "target" }
      odd:route("city", { Paris = target, Rome = target }, { default = print })
      io.write(graph.dot())]]
   lu.assertEquals(table.concat(lines, "\n"), [[
digraph pipeline {
  rankdir=LR;
  node [fontname="sans-serif"];
  n1 [shape=box, label="stream\ns"];
  n2 [shape=box, label="stream\na \"name\" \\ of\n?[1m"];
  n3 [shape=box, label="map\nscript.lua:3"];
  n4 [shape=box, label="pluck\nid, script.lua:6"];
  n5 [shape=note, label="sink\nfile"];
  n6 [shape=box, label="filter"];
  n7 [shape=box, label="stream\ntarget"];
  n8 [shape=note, label="sink"];
  n9 [shape=box, label="route\ncity"];
  n2 -> n3;
  n2 -> n9;
  n3 -> n4;
  n3 -> n6;
  n4 -> n5;
  n6 -> n2;
  n9 -> n7 [label="Paris, Rome"];
  n9 -> n8 [label="default"];
}]])
end

function TestOperatorsGraph.test_sources_and_handlers()
   local lines = pipeline.run [[
      local orders = pgcdc.source { table = "orders", name = "all orders" }
      orders:on("delete", function() end)
      orders:sink(print)
      print((require "pgcdc.stream.graph".dot():gsub(".*sans%-serif", "")))
      pgcdc.stop()
      os.exit(0)]]
   local text = table.concat(lines, "\n")
   lu.assertStrContains(text, [[label="source\nall orders"];]])
   lu.assertStrContains(text, [[label="on delete\nscript.lua:2"];]])
end

return TestOperatorsGraph
