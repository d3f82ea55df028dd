-- pgcdc.stream.messages: what sessions of the database say with pg_logical_emit_message.
-- SPDX-License-Identifier: MIT
--
-- Messages come by the log, in its order, with a source that reads that: the first one of the slot.
-- They are part of its batches, and are saved with its position.

local check = require "pgcdc.check"
local conninfo = require "pgcdc.postgres.conninfo"
local seal = require "pgcdc.seal"
local source = require "pgcdc.stream.source"
local strict = require "pgcdc.strict"
local stream = require "pgcdc.stream.stream"

local Messages = strict.class("operator", {}, stream.class)
Messages.__index = Messages
Messages.__name = "pgcdc.messages"
stream.classes[Messages] = true
seal.kind(Messages, Messages.__name, { on = true }, stream.public, "operator")

local messages = {}
local declared = {} -- {node =, connect =, slot =, prefix =}, which are not with a source yet

--- Calls `handler` with every message. Returns the stream.
function Messages:on(event, handler)
   check.one_of("messages:on", event, { message = true })
   check.type('messages:on("message"): the handler', handler, "function")
   self:sink(handler)
   return self
end

--- Declares a stream of messages and returns it. `spec`: its fields, see lua/README.md.
function messages.declare(spec)
   local what = "pgcdc.messages"
   spec = check.type(what .. ": its argument", spec or {}, "table")
   spec = check.taken(what, spec, { prefix = true, connect = true, slot = true })
   for _, field in ipairs { "prefix", "slot" } do
      if spec[field] ~= nil then
         check.text(("%s: %s"):format(what, field), spec[field])
      end
   end
   local node = setmetatable(stream.node("messages"), Messages)
   node.about = spec.prefix
   declared[#declared + 1] = { node = node, slot = spec.slot, prefix = spec.prefix,
                               connect = conninfo.text(what .. ": connect", spec.connect) }
   return stream.add(node)
end

--- Connects each with the source that it comes with. To be called when the script is loaded.
function messages.start()
   for _, d in ipairs(declared) do
      local carrier = source.of_log(d.connect, d.slot)
      if not carrier then
         check.fail('pgcdc.messages: they come with a source: declare one with capture = "logical",'
            .. " and the same connect and slot")
      end
      carrier:on_message(function(message)
         if d.prefix == nil or message.prefix == d.prefix then
            d.node.out(strict.table("field of a message", { op = "message",
               prefix = message.prefix, content = message.content, xid = message.xid,
               lsn = message.lsn, commit_ts = message.commit_ts }))
         end
      end)
   end
end

return messages
