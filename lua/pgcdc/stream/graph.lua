-- pgcdc.stream.graph: the pipeline as text for Graphviz.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"
local stream = require "pgcdc.stream.stream"

local graph = {}

-- Where a function was written, as "script.lua:12"; nil if it is a function of C.
local function place_of(f)
   local source, line = raw.place(f)
   if line > 0 then
      return ("%s:%d"):format(source:match("[^/]*$"):gsub("^@", ""), line)
   end
end

-- The text for a node's field `about`, or nil.
local function text_of(about)
   if type(about) == "function" then
      return place_of(about)
   elseif type(about) == "string" or type(about) == "number" then
      return tostring(about)
   elseif type(about) == "table" and not stream.of(about) then
      local texts = {}
      for i, item in ipairs(about) do
         texts[i] = text_of(item) or type(item)
      end
      return #texts > 0 and table.concat(texts, ", ") or nil
   end
end

-- The text in quotes. Control characters except newlines become "?".
local function quote(text)
   text = text:gsub("[%c\127]", function(c)
      return c == "\n" and c or "?"
   end)
   return '"' .. text:gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
end

local function label_of(node)
   local kind = node.number and "source" or node.kind or "stream"
   local lines = { kind }
   for _, text in ipairs { node.name or node.table or false, text_of(node.about) or false } do
      if text and text ~= lines[#lines] then
         lines[#lines + 1] = tostring(text)
      end
   end
   return table.concat(lines, "\n")
end

local function shape_of(node)
   if node.number then
      return "cylinder"
   end
   return node.kind == "sink" and "note" or "box"
end

-- All nodes, in the order in which they were declared, and an id for each.
local function all_nodes()
   local nodes, ids = {}, {}
   local function add(node)
      if not ids[node] then
         nodes[#nodes + 1] = node
         ids[node] = "n" .. #nodes
      end
   end
   for _, node in ipairs(stream.nodes) do
      add(node)
   end
   local i = 1
   while nodes[i] do
      for _, consumer in ipairs(nodes[i].consumers) do
         if consumer.node then
            add(consumer.node)
         end
      end
      i = i + 1
   end
   return nodes, ids
end

--- Where the function of a node was written, as "script.lua:12", or nil.
function graph.place_of(node)
   return type(node.about) == "function" and place_of(node.about) or nil
end

--- What takes the changes of each source, by its number: places of handlers, kinds of operators.
function graph.handlers()
   local found = {}
   for _, node in ipairs(stream.nodes) do
      local names = {}
      for _, consumer in ipairs(node.number and node.consumers or {}) do
         local f = consumer.about
         names[#names + 1] = consumer.node and consumer.node.kind
            or type(f) == "function" and place_of(f) or nil
      end
      if node.number then
         found[node.number] = table.concat(names, ", ")
      end
   end
   return found
end

local function array(list)
   return setmetatable(list, raw.array_metatable)
end

--- The streams of the script as a table: {nodes = {{id =, kind =, lines = {...}}}, edges =
--- {{from =, to =, label =}}}. Handlers are nodes of the kind "handler".
function graph.describe()
   local list, edges = array {}, array {}
   local nodes, ids = all_nodes()
   for i, node in ipairs(nodes) do
      local lines = array {}
      for line in label_of(node):gmatch "[^\n]+" do
         lines[#lines + 1] = line
      end
      list[i] = { id = ids[node], kind = node.number and "source" or node.kind, lines = lines,
                  source = node.number }
   end
   for _, node in ipairs(nodes) do
      for i, consumer in ipairs(node.consumers) do
         local to = consumer.node and ids[consumer.node]
         if not to then
            to = ("%sh%d"):format(ids[node], i)
            local f = consumer.about or consumer.f
            local place = type(f) == "function" and place_of(f)
            list[#list + 1] = { id = to, kind = "handler",
                                lines = array { "on " .. consumer.event, place or nil } }
         end
         edges[#edges + 1] = { from = ids[node], to = to, label = consumer.label }
      end
   end
   return { nodes = list, edges = edges }
end

--- The streams of the script as a Graphviz digraph.
function graph.dot()
   local lines = { "digraph pipeline {", "  rankdir=LR;", '  node [fontname="sans-serif"];' }
   local function add(...)
      lines[#lines + 1] = "  " .. string.format(...)
   end
   local nodes, ids = all_nodes()
   for _, node in ipairs(nodes) do
      add("%s [shape=%s, label=%s];", ids[node], shape_of(node), quote(label_of(node)))
   end
   for _, node in ipairs(nodes) do
      for i, consumer in ipairs(node.consumers) do
         local to = consumer.node and ids[consumer.node]
         if not to then -- it is a handler, no stream
            to = ("%sh%d"):format(ids[node], i)
            local f = consumer.about or consumer.f
            local place = type(f) == "function" and place_of(f)
            add("%s [shape=note, label=%s];", to,
               quote(("on %s\n%s"):format(consumer.event or "change", place or "")))
         end
         add("%s -> %s%s;", ids[node], to,
            consumer.label and (" [label=%s]"):format(quote(consumer.label)) or "")
      end
   end
   lines[#lines + 1] = "}\n"
   return table.concat(lines, "\n")
end

return graph
