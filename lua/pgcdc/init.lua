-- pgcdc: what scripts see. The global `pgcdc` is this table.
-- SPDX-License-Identifier: MIT
--
-- The modules are in folders. A module requires those of its own folder and of the folders before
-- it in this list: this folder except init and bundled; postgres/; delivery/; sinks/; stream/;
-- doctor/.
-- init and bundled may require all. pgcdc.raw is what the C side exports, see src/lua/api_*.h. The
-- host calls the hooks at the end of this file, see src/lua/hooks.h.

local raw = require "pgcdc.raw"
local change = require "pgcdc.change"
local check = require "pgcdc.check"
local parts = require "pgcdc.fields"
local options = require "pgcdc.options"
local seal = require "pgcdc.seal"
local strict = require "pgcdc.strict"
local timer = require "pgcdc.timer"
local checkpoint = require "pgcdc.delivery.checkpoint"
local control = require "pgcdc.delivery.control"
local feeds = require "pgcdc.delivery.feeds"
local lineage = require "pgcdc.delivery.lineage"
local on_error = require "pgcdc.delivery.on_error"
local recovery = require "pgcdc.delivery.recovery"
local refused = require "pgcdc.delivery.refused"
local state = require "pgcdc.delivery.state"
local troubles = require "pgcdc.delivery.troubles"
local figures = require "pgcdc.stream.figures"
local graph = require "pgcdc.stream.graph"
local connect = require "pgcdc.postgres.client"
local stream = require "pgcdc.stream.stream"
local source = require "pgcdc.stream.source"
local messages = require "pgcdc.stream.messages"
local topics = require "pgcdc.stream.topics"
local workers = require "pgcdc.stream.workers"
local doctor = require "pgcdc.doctor.doctor"

for _, name in ipairs { "basic", "choose", "combine", "ends", "envelope", "fold", "only",
                        "pace", "project", "reduce", "route", "window" } do
   require("pgcdc.stream.operators." .. name)
end

local pgcdc = {
   version = raw.version,
   null = raw.null,
   source = seal.result(source.declare),
   messages = seal.result(messages.declare),
   stream = seal.result(stream.new),
   register = stream.register,
   change = change.make,
   is_change = raw.is_change,
   get = parts.get,
   copy = parts.copy,
   state = state.table,
   sinks = require "pgcdc.sinks.by_name",
   connect = seal.result(function(target) return connect(target) end),
   options = options.read,
   required = options.required,
   args = options.parse(raw.words),
   every = seal.result(timer.every),
   after = seal.result(timer.after),
   stop = raw.stop,
   partition = raw.partition, -- of a worker; else nil
}

--- Values as JSON text and back. `decode` returns nil and a message where the text is no JSON.
pgcdc.json = {
   encode = raw.encode,
   decode = raw.decode,
}

--- Makes a table a sequence for JSON, so that an empty one is written `[]`. Returns the table.
function pgcdc.array(list)
   local mt = type(list) == "table" and getmetatable(list)
   if mt and not rawequal(mt, raw.array_metatable) and rawget(mt, "__metatable") ~= nil then
      check.fail("pgcdc.array: cannot change a protected metatable")
   end
   return setmetatable(list or {}, raw.array_metatable)
end

pgcdc.log = {}
for _, level in ipairs { "error", "warn", "info", "debug" } do
   --- Writes one line to standard error. `fields`: a table of what belongs to the message, or nil.
   pgcdc.log[level] = function(message, fields)
      raw.log(level, tostring(message), fields, true)
   end
end

timer.start(raw.now)
raw.hook("timers", function()
   local seconds, has_windows = timer.run()
   return seconds, has_windows, lineage.has_released, feeds.take_due()
end)
raw.hook("wire", function()
   check.set_loaded()
   workers.check(raw.source_count())
   messages.start()
   source.set_loaded()
   source.rewire_all() -- now it is known whether there are sinks
   source.tell_of_unheard()
end)
raw.hook("start", function()
   recovery.start()
   source.tell_exact()
end)
raw.hook("resolved", feeds.resolve)
raw.hook("feed", topics.start)
raw.hook("fetch", topics.fetch)
raw.hook("group", workers.turn)
raw.hook("reading", feeds.begin_reading)
raw.hook("emptied", feeds.empty)
raw.hook("ready", feeds.end_reading)
raw.hook("enter", function(number, batch, has_rows)
   if has_rows then
      feeds.enter(number)
   end
   lineage.enter(number, batch)
end)
raw.hook("leave", lineage.leave)
raw.hook("checkpoint", function(number, ...)
   return on_error.checkpoint(source.by_number(number), ...)
end)
raw.hook("last", function()
   stream.finish()
   refused.set_ending()
end)
raw.hook("finish", function()
   refused.finish()
   checkpoint.finish()
end)
raw.hook("graph", function()
   print(graph.dot())
end)
raw.hook("checked", doctor.source)
raw.hook("check", doctor.finish)
raw.hook("figures", figures.all)
raw.hook("control", control.run)
function troubles.show()
   if raw.is_watched() then
      raw.show_figures(figures.all())
   end
end

strict.table("field of pgcdc", pgcdc, { partition = true })
strict.table("field of pgcdc.json", pgcdc.json)
strict.table("field of pgcdc.log", pgcdc.log)
strict.globals()
require "pgcdc.bundled"
require "pgcdc.terminal"

return pgcdc
