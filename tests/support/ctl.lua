-- ctl.lua: asks a program that runs, as a user does.
-- SPDX-License-Identifier: MIT

local child = require "child"
local homes = require "homes"
local json = require "json"
local lu = require "luaunit"
local program = require "program"

local ctl = {}

-- Runs `pgcdc-lua ctl -s STATE` with these words. Returns its status, standard output and standard
-- error. `p`: the program that is asked. Where its state is in a database it is asked as its user
-- does, by its script.
function ctl.run(p, ...)
   p = rawget(p, "program") or p
   local is_file = p.state:find "^/"
   local result = program.run { state = false, env = { HOME = not is_file and p.dir or nil },
      options = is_file and { "ctl", "-s", homes.place(p.state), ... } or { "ctl", p.script, ... } }
   return result.status, result.stdout, result.stderr
end

-- The same, which must do what it is asked. Returns what it says.
function ctl.ok(p, ...)
   local status, text, why = ctl.run(p, ...)
   lu.assertEquals({ status, why }, { 0, "" })
   return (text:gsub("\n$", ""))
end

-- The same; what is asked must not be possible. Returns why.
function ctl.fails(p, ...)
   local status, text, why = ctl.run(p, ...)
   lu.assertEquals({ status, text }, { 1, "" }, why)
   return (why:gsub("^pgcdc%-lua: ", ""):gsub("\n$", ""))
end

-- The same with --json. Returns the answer, decoded.
function ctl.json(p, ...)
   local _, text = ctl.run(p, "--json", ...)
   lu.assertNotNil(text:match "^[^\n]+\n$", text)
   return json.decode(text)
end

-- The status, decoded.
function ctl.status(p)
   return ctl.json(p, "status").status
end

-- Runs it on a terminal of so many columns, with these words, until it ends or `seconds` have
-- passed. Returns what it writes.
function ctl.on_terminal(p, seconds, columns, ...)
   local words = table.concat({ program.binary(), "ctl", "-s", homes.place(p.state), ... }, " ")
   local command = ("stty cols %d rows 24; exec timeout -s INT %g %s"):format(columns, seconds,
      words)
   return (child.run({ argv = { "script", "-qec", command, "/dev/null" }, stderr = "null",
                       stdin = "null" }, 30))
end

return ctl
