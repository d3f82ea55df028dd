-- pgcdc.testing.world: a script and a Lua half of its own, without a database, sinks or a clock.
-- SPDX-License-Identifier: MIT
--
-- Each run of a test is a world: all modules of pgcdc are made anew, as they are at the start of
-- the program, on a pgcdc.raw in which what reaches the world outside is replaced:
--
--    what the script calls      replaced by
--    pgcdc.source               a list, `world.sources`; the test feeds them
--    the state file             a table, `world.records`
--    the clock                  `world.clock`, which the test moves
--    sinks                      lists, see testing/recorder
--    connections                what the test gives, see `open`
--    print, pgcdc.log           lists
--
-- What is in between (operators, lineage, checkpoints, recovery, on_error) is the program's own.
--
-- The text of a module is compiled once, as a function that returns a new instance at each call.

local raw = require "pgcdc.raw"
local recorder = require "pgcdc.testing.recorder"

local world = {}

local factories = {} -- path -> function(env, ...) that runs the file there
local ours = _ENV    -- the standard functions, as they were before any script ran

-- The function that runs a file in an environment, which is its first argument.
local function factory_of(path)
   local factory = factories[path]
   if not factory then
      local file = assert(io.open(path, "rb"))
      local text = file:read "a"
      file:close()
      text = text:gsub("^\239\187\191", ""):gsub("^#[^\n]*", "")
      -- on the first line: lines keep their numbers
      local name = "@" .. path
      local chunk = load("return function(_ENV, ...) " .. text .. "\nend", name, "t", {})
      if not chunk then
         local _, why = load(text, name, "t") -- the error without our first line
         error(why or ("%s: cannot be tested"):format(path), 0)
      end
      factory = chunk()
      factories[path] = factory
   end
   return factory
end

-- The standard functions, as a table that shares nothing with the program's own.
local function standard_globals()
   local globals = {}
   for name, value in pairs(ours) do
      if type(value) == "table" and name ~= "_G" then
         local copy = {}
         for field, f in pairs(value) do
            copy[field] = f
         end
         value = copy
      end
      globals[name] = value
   end
   globals._G = globals
   return globals
end

-- ---- what stands for pgcdc.raw ----

-- The saved records of a kind and name.
local function kept(self, kind, name)
   local values = {}
   for key, value in pairs((self.records[kind] or {})[name] or {}) do
      values[key] = value
   end
   return values
end

local function save(self, records)
   for _, record in ipairs(records) do
      local kind, name, key, value = record[1], record[2], record[3], record[4]
      local of_kind = self.records[kind] or {}
      local of_name = of_kind[name] or {}
      self.records[kind], of_kind[name] = of_kind, of_name
      of_name[key] = value or nil
   end
end

local function declare(self, spec)
   if self.is_loaded then
      error("sources are declared while the script loads, not in its handlers", 0)
   end
   local number = #self.sources + 1
   self.sources[number] = { number = number, table = spec.table, name = spec.name or spec.table,
                            pk = spec.pk, handlers = {}, pauses = 0, group = number }
   return number
end

-- Functions of pgcdc.raw that a world has in place of the program's.
local function own_raw(self)
   local sources = self.sources
   local own = {
      words = self.words, script = self.path, dsn = "", is_sandboxed = false, has_network = true,
      is_reset = false, state_file = "the state of a test",
      declare = function(spec)
         return declare(self, spec)
      end,
      handle = function(number, event, f)
         sources[number].handlers[event] = f
      end,
      hook = function(name, f)
         self.hooks[name] = f
      end,
      source_count = function()
         return #sources
      end,
      source_name = function(number)
         return sources[number].name, true
      end,
      set_exact = function() end,
      direct = function() end, -- handlers get all rows
      want = function() end,
      methods = function() end,
      pause = function(number, by)
         sources[number].pauses = sources[number].pauses + by
      end,
      group = function(number, group)
         sources[number].group = group
      end,
      kept = function(kind, name)
         return kept(self, kind, name)
      end,
      save = function(records)
         save(self, records)
      end,
      pipeline = function()
         return "test"
      end,
      epoch = function() end,
      be_member = function() end, -- all partitions are one pipeline
      confirm = function() end,
      leads = function()
         return true
      end,
      hold_back = function(is_held)
         self.is_held_back = is_held
      end,
      want_flush = function()
         self.wants_flush = true
      end,
      now = function()
         return self.clock
      end,
      sleep = function(seconds)
         self.clock = self.clock + seconds
         return not self.is_stopping
      end,
      nap = function() end,
      start_clock = function() end,
      stop = function(status)
         self.is_stopping, self.status = true, status or 0
      end,
      log = function(level, message, fields)
         if self.shows then
            return self.shows.log(level, message, fields)
         end
         self.log[#self.log + 1] = { level = level, message = message, fields = fields }
      end,
      rethrow = function(text)
         error(text, 0)
      end,
      usage = function(text)
         error(text, 0)
      end,
      refuse = function(text)
         error(text, 0)
      end,
      stale = function(text)
         error(text, 0)
      end,
      answer = function(text)
         error(text, 0)
      end,
      file_check_write = function() end,
      file_make_folder = function() end,
      db_check = function() end,
      db_open = function()
         return nil, "a test has no database: give pgcdc.testing.script a function `connect`,"
            .. " which returns what stands for the connection", "", ""
      end,
   }
   return setmetatable(own, { __index = raw })
end

-- ---- modules ----

-- The path of a module of the script's own, or nil.
local function users_module(name)
   return package.searchpath(name, package.path)
end

-- `require` of a world. Modules in Lua are the world's own, but for luaunit, which has the tests;
-- those in C are the program's.
local function requirer(self, env)
   return function(name)
      local module = self.loaded[name]
      if module ~= nil then
         return module
      end
      local path, run_in = nil, self.globals
      if name == "pgcdc" then
         path, run_in = raw.lua_dir .. "/pgcdc/init.lua", env
      elseif name:sub(1, 6) == "pgcdc." and name:sub(1, 13) ~= "pgcdc.native." then
         path, run_in = raw.lua_dir .. "/" .. name:gsub("%.", "/") .. ".lua", env
      elseif name ~= "luaunit" and not package.preload[name] then
         path = users_module(name)
      end
      if not path or run_in == self.globals and not path:find "%.lua$" then
         module = require(name)
      else
         module = factory_of(path)(run_in, name, path)
      end
      self.loaded[name] = module == nil and true or module
      return self.loaded[name]
   end
end

-- The sinks of a world, by name: each is made and checked by its own constructor.
local function record_sinks(self, by_name)
   self.loaded["pgcdc.sinks.by_name"] = setmetatable({}, { __index = function(t, kind)
      local constructor = by_name[kind] -- raises where there is none
      t[kind] = function(spec)
         return recorder.record(self, kind, constructor(spec))
      end
      return t[kind]
   end })
end

-- What the script prints, a line for each call.
local function printer(self)
   return function(...)
      local texts = table.pack(...)
      for i = 1, texts.n do
         texts[i] = tostring(texts[i])
      end
      local line = table.concat(texts, "\t")
      if self.shows then
         return self.shows.value(nil, line)
      end
      self.output[#self.output + 1] = line
   end
end

-- os.time and os.date, of the world's clock. `epoch`: what os.time() is at first; nil: now.
local function set_os(self, os, epoch)
   local time, date, began = os.time, os.date, self.clock
   function os.time(t)
      return t and time(t) or (epoch or time()) + math.floor(self.clock - began)
   end
   function os.date(format, at)
      return date(format or "%c", at or os.time())
   end
end

--- The file of a script: a path, or the name of a bundled one; nil if there is none.
function world.find(path)
   for _, candidate in ipairs { path, ("%s/%s"):format(raw.scripts_dir, path),
                                ("%s/%s.lua"):format(raw.scripts_dir, path) } do
      local file = io.open(candidate)
      local _, problem
      if file then
         _, problem = file:read(0) -- a folder can be opened as well
         file:close()
      end
      if file and not problem then
         return candidate
      end
   end
end

--- Makes a world, and loads the script. `spec`: {path =, words = list of NAME=VALUE, records = what
--- was saved, targets = what sinks have, see recorder; clock = seconds; log, output = lists;
--- connect = function(conninfo) -> what stands for a connection, or nil; on_made =
--- function(world), called before the script is loaded, or nil; epoch = what os.time() is at first,
--- or nil; shows = {value = function(name of a sink or nil, text), log = function(level, message,
--- fields)}, which get what sinks get, what is printed and logged, and nothing is kept of it; or
--- nil}. Raises what the script raises.
function world.open(spec)
   local self = { path = spec.path, words = spec.words, records = spec.records,
                  targets = spec.targets, clock = spec.clock, sources = {}, hooks = {}, loaded = {},
                  log = spec.log, output = spec.output, sinks = {},
                  shows = spec.shows }
   self.globals = standard_globals()
   local env = setmetatable({ _G = self.globals }, { __index = ours })
   self.require = requirer(self, env)
   self.globals.require, env.require = self.require, self.require
   self.globals.print, env.print = printer(self), printer(self)
   set_os(self, self.globals.os, spec.epoch)
   self.loaded["pgcdc.raw"] = own_raw(self)
   record_sinks(self, self.require "pgcdc.sinks.by_name")
   self.pgcdc = self.require "pgcdc"
   self.globals.pgcdc = self.pgcdc
   if spec.connect then
      rawset(self.pgcdc, "connect", spec.connect)
   end
   if spec.on_made then
      spec.on_made(self)
   end
   factory_of(spec.path)(self.globals, spec.path)
   self.is_loaded = true
   return self
end

return world
