-- killing.lua: runs a script under SIGKILL at random moments while a test writes.
-- SPDX-License-Identifier: MIT
--
-- $PGCDC_TEST_SEED: when it is killed; a failure names the seed.

local native = require "native"
local program = require "program"
local seeds = require "seeds"
local wait = require "wait"

local killing = {}

local seed = seeds.asked or seeds.fresh()

killing.seed_number = seed -- for a test that is at random before `run`

-- Options: those of program.start, and
--    write     function(n), called again and again, n = 1, 2, ...
--    seconds   how long that goes on (default 4)
--    life      the longest life of a run in seconds (default 0.4)
--    ended     function(p), called with each program that was killed or stopped
--    stops     true: every other time, at random, it is a stop by SIGTERM
-- Then one more run, with --once and, for a script, final=1 among its words, delivers what there
-- is. Returns its result, and how often the program was killed or stopped.
function killing.run(options)
   math.randomseed(seed)
   local function start()
      return program.start(options), native.now() + 0.02 + math.random() * (options.life or 0.4)
   end
   local over = native.now() + wait.scaled(options.seconds or 4)
   local kills, n, p, dies = 0, 0, start()
   while native.now() < over do
      if not p:alive() then
         error(("seed %d: it ended by itself\n%s"):format(seed, p:stderr()))
      end
      if native.now() > dies then
         if options.stops and math.random(2) == 1 then
            local result = p:stop()
            -- on a busy machine the signal may come before the program can hear it
            if result.status ~= 0 and result.signal ~= 15 then
               error(("seed %d: a stop failed\n%s"):format(seed, result.stderr))
            end
         else
            p:kill9()
         end
         kills = kills + 1
         if options.ended then
            options.ended(p)
         end
         p, dies = start()
      end
      n = n + 1
      options.write(n)
   end
   p:kill9()
   if options.ended then
      options.ended(p)
   end
   local last = setmetatable({ options = { "--once" } }, { __index = options })
   last.args = { final = not options.bundled and 1 or nil }
   for name, value in pairs(options.args or {}) do
      last.args[name] = value
   end
   local result = program.run(last)
   if result.status ~= 0 then
      error(("seed %d: the last run failed\n%s"):format(seed, result.stderr))
   end
   return result, kills
end

--- What to say with a failed comparison.
function killing.seed()
   return "seed " .. seed
end

-- A script's sink that writes lines to a file, exactly once: `file_sink(path, name)`.
killing.file_sink = [[
   local function file_sink(path, name)
      local self, f = {name = name}, nil
      function self:restore(token)
         local old = io.open(path, "rb")
         local text = old and old:read "a" or ""
         if old then old:close() end
         assert(#text >= (token or 0), "the file is shorter than it was")
         f = assert(io.open(path .. ".new", "wb"))
         f:write(text:sub(1, token or 0))
         f:flush()
         assert(os.rename(path .. ".new", path))
      end
      function self:write(x) f:write(tostring(x), "\n") end
      function self:flush() f:flush() return f:seek() end
      function self:close() f:close() end
      return self
   end
]]

return killing
