-- scale_model.lua: a model of workers that share the partitions of a topic, step by step.
-- SPDX-License-Identifier: MIT
--
-- A partition is an instance, which does one change after the other: of each it waits for <wait>
-- seconds (for somebody else, who has room), and computes for <cpu>. The instances of a machine
-- share its cores. While nobody has a partition its changes queue up in the topic. Arrivals are at
-- random, by a seed.

local STEP = 0.001 -- seconds

local model = {}

-- A number of arrivals of a step, of which <mean> are expected: Poisson's, mean below 30.
local function arrivals(random, mean)
   local limit, n, product = math.exp(-mean), 0, random()
   while product > limit do
      n, product = n + 1, product * random()
   end
   return n
end

-- The same numbers for the same seed, whoever else uses math.random.
local function generator(seed)
   local state = seed
   return function()
      state = (state * 6364136223846793005 + 1442695040888963407) & math.maxinteger
      return (state >> 10) / (math.maxinteger >> 10)
   end
end

-- Gives partitions that nobody has to machines that live, as evenly as can be; they are at work
-- from <at> on.
local function assign(run, at)
   for _, partition in ipairs(run.partitions) do
      if not partition.machine then
         local least
         for _, machine in ipairs(run.machines) do
            if machine.lives and (not least or machine.n < least.n) then
               least = machine
            end
         end
         if least then
            least.n, partition.machine, partition.from = least.n + 1, least, at
         end
      end
   end
end

-- Takes a machine's partitions, for <gap> seconds, to give them to others.
local function leave(run, machine, gap)
   machine.lives, machine.n = false, 0
   for _, partition in ipairs(run.partitions) do
      if partition.machine == machine then
         partition.machine = nil
      end
   end
   assign(run, run.now + gap)
end

-- How many changes a second an instance does, beside so many others on its machine that are busy.
local function rate(machine, spec, partition)
   local wait, cpu = spec.wait * (partition.slow or 1), spec.cpu
   local demand = machine.busy * cpu / (wait + cpu)
   return 1 / (wait + cpu * math.max(1, demand / spec.cores))
end

local function serve(run, spec)
   for _, machine in ipairs(run.machines) do
      machine.busy = 0
   end
   for _, partition in ipairs(run.partitions) do
      local machine = partition.machine
      partition.works = machine and run.now >= partition.from and partition.queue > 0
      if partition.works then
         machine.busy = machine.busy + 1
      end
   end
   for _, partition in ipairs(run.partitions) do
      if partition.works then
         local n = math.min(partition.queue, rate(partition.machine, spec, partition) * STEP)
         partition.queue, run.done = partition.queue - n, run.done + n
      end
   end
end

--- Runs the model for `seconds`. Of `spec`:
--    partitions, machines, cores   how many; cores of each machine
--    wait, cpu     seconds of each change
--    arriving      changes a second of all partitions together
--    slow          {[partition] = by how much it waits longer}
--    events        a list of {at =, machine =, gap =}: then that machine leaves, and its partitions
--                  are with others after <gap>
-- Returns changes done a second, the largest backlog, and when the last backlog after the last
-- event was worked off (nil: never): at most ten changes a partition are none.
function model.run(spec)
   local random, run = generator(spec.seed or 7), { now = 0, done = 0, machines = {},
      partitions = {} }
   for i = 1, spec.machines do
      run.machines[i] = { lives = true, n = 0 }
   end
   for i = 1, spec.partitions do
      run.partitions[i] = { queue = 0, slow = spec.slow and spec.slow[i] }
   end
   assign(run, 0)
   local mean = spec.arriving / spec.partitions * STEP
   local next_event, largest, recovered = 1, 0, nil
   for step = 0, math.floor(spec.seconds / STEP) - 1 do
      run.now = step * STEP
      local event = spec.events and spec.events[next_event]
      if event and run.now >= event.at then
         leave(run, run.machines[event.machine], event.gap)
         next_event, recovered = next_event + 1, nil
      end
      local backlog = 0
      for _, partition in ipairs(run.partitions) do
         partition.queue = partition.queue + arrivals(random, mean)
         backlog = backlog + partition.queue
      end
      serve(run, spec)
      largest = math.max(largest, backlog)
      local is_short = backlog <= 10 * spec.partitions
      recovered = is_short and (recovered or run.now) or nil
   end
   return { rate = run.done / spec.seconds, backlog = largest, recovered = recovered,
            queues = run.partitions }
end

return model
