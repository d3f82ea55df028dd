-- pgcdc.sinks.by_name: the sinks that come with the program, each loaded at its first use.
-- SPDX-License-Identifier: MIT
--
-- sinks/NAME.lua, or sinks/NAME/sink.lua, returns the constructor: a function from a table of
-- options to a sink. Some need a module in C, which may not be installed.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local seal = require "pgcdc.seal"

local names = { "clickhouse", "csv", "exec", "http", "jsonl", "kafka", "nats", "opensearch",
                "postgres", "redis", "text" }
local networked = { clickhouse = true, http = true, kafka = true, nats = true, opensearch = true,
                    redis = true }
local modules = { kafka = "kafka.sink", postgres = "postgres.sink" }

local known = {}
for _, name in ipairs(names) do
   known[name] = true
end

-- In the sandbox: name -> why it cannot be had.
local missing = {}

-- The constructor; or nil, and why there is none.
local function load_constructor(name)
   local ok, result = pcall(require, "pgcdc.sinks." .. (modules[name] or name))
   if ok then
      return seal.result(result)
   elseif not networked[name] then
      error(result, 0)
   end
   return nil, result
end

local sinks = setmetatable({}, {
   names = names, -- to list them
   __index = function(t, name)
      if not known[name] then
         check.fail("pgcdc.sinks: there is no sink '%s'%s", tostring(name),
            check.nearest(name, names))
      end
      local constructor, problem
      if raw.is_sandboxed and missing[name] then
         problem = missing[name]
      else
         constructor, problem = load_constructor(name)
      end
      if not constructor then
         check.fail("pgcdc.sinks: %s", problem)
      end
      rawset(t, name, constructor)
      return constructor
   end,
})

-- In the sandbox all are loaded now: later, `require` cannot find our modules any more.
for _, name in ipairs(raw.is_sandboxed and names or {}) do
   local constructor, problem
   if networked[name] and not raw.has_network then
      problem = ("the sink '%s' needs the network, which the sandbox has only with "
         .. "--allow-network"):format(name)
   else
      constructor, problem = load_constructor(name)
   end
   rawset(sinks, name, constructor)
   missing[name] = problem
end

return sinks
