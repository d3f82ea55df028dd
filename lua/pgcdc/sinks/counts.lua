-- pgcdc.sinks.counts: what a sink tells of itself by `stats`.
-- SPDX-License-Identifier: MIT
--
-- A sink that keeps counts has them in its field `counts`. Its own functions count what they take
-- and what is done; delivery/on_error counts what fails.

local counts = {}

local ours = setmetatable({}, { __mode = "k" }) -- a sink of a script's own may have such a field

--- New ones. taken: values that the sink took; records: those of them that are where they belong;
--- bytes: how many that was; at: seal -> what `taken` was then.
function counts.new()
   local self = { taken = 0, records = 0, bytes = 0, retries = 0, refused = 0, flush_seconds = 0,
                  at = {} }
   ours[self] = true
   return self
end

-- The counts of a sink; nil: it keeps none.
local function of(sink)
   local self = type(sink) == "table" and rawget(sink, "counts")
   return self and ours[self] and self or nil
end

--- What was taken, or was taken before that seal, is where it belongs.
function counts.done(self, seal)
   self.records = seal and self.at[seal] or self.taken
   self.last_error = nil
   if seal then
      self.at[seal] = nil
   else
      self.at = {}
   end
end

--- The sink failed, and is tried again.
function counts.failed(sink, message)
   local self = of(sink)
   if self then
      self.retries, self.last_error = self.retries + 1, message
   end
end

--- A record of the sink can never be taken.
function counts.refused(sink)
   local self = of(sink)
   if self then
      self.refused = self.refused + 1
   end
end

--- For `stats` of a sink. `unsent_bytes`: that are not where they belong, nil where bytes are not
--- counted; `is_open`: whether that can be written to now.
function counts.stats(self, unsent_bytes, is_open)
   return {
      records = self.records - self.refused, bytes = unsent_bytes and self.bytes or nil,
      retries = self.retries, refused = self.refused, unsent_rows = self.taken - self.records,
      unsent_bytes = unsent_bytes, in_flight = 0, is_open = is_open, is_tripped = false,
      flush_seconds = self.flush_seconds, last_error = self.last_error,
   }
end

return counts
