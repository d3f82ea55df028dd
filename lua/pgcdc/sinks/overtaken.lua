-- pgcdc.sinks.overtaken: another program has begun to use the name of a sink.
-- SPDX-License-Identifier: MIT

local raw = require "pgcdc.raw"

--- Raises what that means. Where the state is in a database that is asked: who has lost the
--- pipeline ends; who has it may have been overtaken by a process that had it before, came late and
--- will end. `forget`, or nil: a function after which the next connection takes the name again.
return function(sink, forget)
   raw.confirm()
   if forget and raw.epoch() then
      forget()
      sink:again "a process that had the pipeline before came late"
   end
   sink:stop(("another pgcdc-lua has taken over the sink '%s': each needs a name of its own")
      :format(sink.name))
end
