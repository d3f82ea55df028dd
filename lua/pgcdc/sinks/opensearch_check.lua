-- pgcdc.sinks.opensearch_check: what --check finds out about indexes, and what mends that.
-- SPDX-License-Identifier: MIT
--
-- An index that is not there is made with the first document. Of one that is there, settings and
-- mapping are read: whether it may be written to, and whether documents of these columns fit; of
-- the cluster, whether anything may be.

local raw = require "pgcdc.raw"
local http_check = require "pgcdc.sinks.http_check"
local http_client = require "pgcdc.sinks.http_client"
local mend = require "pgcdc.mend"
local pattern = require "pgcdc.sinks.pattern"

local opensearch_check = {}

local BLOCKS = { "index.blocks.write", "index.blocks.read_only",
                 "index.blocks.read_only_allow_delete" }

local CLUSTER_BLOCKS = { "cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete" }

local numeric = { long = true, integer = true, short = true, byte = true, double = true,
                  float = true, half_float = true, scaled_float = true, unsigned_long = true }
-- What JSON has of a kind of column, where that is not a text.
local kinds = { int = "number", float = "number", numeric = "number", bool = "boolean",
                json = "document" }

-- ---- what is asked ----

-- Where an index is, after the address.
local function path_of(sink, index)
   return sink.prefix .. "/" .. http_client.percent_encoded(index)
end

-- The answer to a question about an index, a table; nil: there is none.
local function ask(sink, index, what)
   local answer = http_check.get(sink, sink.address .. path_of(sink, index) .. "/" .. what)
   if answer.status == 404 then
      return nil
   elseif answer.status ~= 200 then
      sink:deny(("the index %s: %s"):format(index, http_client.describe(sink, answer)))
   end
   local ok, found = pcall(raw.decode, answer.body)
   local _, of_index = next(ok and type(found) == "table" and found or {})
   return type(of_index) == "table" and of_index or {}
end

-- ---- blocks ----

-- The names of those that are set, and JSON of an object that removes them.
local function blocks_in(settings, names)
   local wrong, null = {}, {}
   for _, name in ipairs(names) do
      if settings[name] == "true" then
         wrong[#wrong + 1], null[#null + 1] = name, ('"%s": null'):format(name)
      end
   end
   return table.concat(wrong, ", "), ("{%s}"):format(table.concat(null, ", "))
end

-- Raises that documents cannot go to `what`, and how that is mended, if blocks are set.
local function raise_blocks(sink, what, blocks, body, path)
   if blocks ~= "" then
      sink.mends = { http_check.curl(sink, body, "PUT", path) }
      sink:stop(("%s takes no documents: %s is set (also by a server whose disk is full)"):format(
         what, blocks))
   end
end

local function check_blocks(sink, index, settings)
   local blocks, null = blocks_in(settings, BLOCKS)
   raise_blocks(sink, "the index " .. index, blocks, null, path_of(sink, index) .. "/_settings")
end

-- Who may write documents need not be allowed to ask for this.
local function check_cluster(sink)
   local path = sink.prefix .. "/_cluster/settings"
   local answer = http_check.get(sink, sink.address .. path .. "?flat_settings=true")
   local ok, found = pcall(raw.decode, answer.status == 200 and answer.body or "{}")
   for _, kind in ipairs { "persistent", "transient" } do
      local settings = ok and type(found) == "table" and found[kind]
      local blocks, null = blocks_in(type(settings) == "table" and settings or {}, CLUSTER_BLOCKS)
      raise_blocks(sink, "the cluster", blocks, ('{"%s": %s}'):format(kind, null), path)
   end
end

-- ---- mapping ----

-- Why values of a column do not fit a field of the mapping, or nil.
local function misfit_of(field, column)
   local kind = kinds[column.kind] or "text"
   if field.properties and kind ~= "document" then
      return "an object"
   elseif numeric[field.type] and kind ~= "number" or field.type == "boolean" and kind ~= "boolean"
   then
      return field.type
   end
end

-- Raises if the mapping has no field for a column, and takes no new ones.
local function check_strict(sink, index, mapping, columns)
   local missing, fields = {}, mapping.properties or {}
   for _, column in ipairs(columns) do
      missing[#missing + 1] = not fields[column.name] and column.name or nil
   end
   if tostring(mapping.dynamic) == "strict" and missing[1] then
      sink.mends = { http_check.curl(sink, '{"dynamic": true}', "PUT", path_of(sink, index)
         .. "/_mapping") }
      sink:stop(("the mapping of the index %s is strict, and lacks %s"):format(index,
         table.concat(missing, ", ")))
   end
end

local function warn_of_misfits(sink, index, mapping, columns)
   local wrong = {}
   for _, column in ipairs(columns) do
      local field = (mapping.properties or {})[column.name]
      local misfit = field and misfit_of(field, column)
      wrong[#wrong + 1] = misfit and ("%s is %s there, and %s here"):format(column.name, misfit,
         column.type) or nil
   end
   if wrong[1] then
      sink:warn(("the index %s refuses what does not fit: %s. A mapping cannot be changed: write "
         .. "to another index"):format(index, table.concat(wrong, "; ")),
         { mend.option("index", sink.index_text .. "_2") })
   end
end

-- ---- the sink ----

-- Whether an index takes what a source has.
local function check_index(sink, index, number)
   local found = ask(sink, index, "_settings?flat_settings=true")
   if not found then
      return
   end
   check_blocks(sink, index, found.settings or {})
   local columns = not sink.has_format and sink.columns[number]
   local mapping = columns and ask(sink, index, "_mapping")
   if mapping then
      check_strict(sink, index, mapping.mappings or {}, columns)
      warn_of_misfits(sink, index, mapping.mappings or {}, columns)
   end
end

--- For --check: whether the server answers, and its indexes take documents.
function opensearch_check.check(sink)
   local text = http_check.check(sink)
   check_cluster(sink)
   if sink.index_text then
      local indexes, numbers = pattern.expected(sink.index_text, sink)
      for i, index in ipairs(indexes) do
         check_index(sink, index, numbers[i])
      end
   end
   return text
end

--- The sink's method: changes of a source like the example `x` are to come.
function opensearch_check.expect(sink, x, number)
   sink.columns[number] = raw.is_change(x) and raw.copy_columns(x) or nil
end

return opensearch_check
