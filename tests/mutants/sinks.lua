-- sinks.lua: mutants of what sinks and checkpoints do, which the tests of sinks must find out.
-- SPDX-License-Identifier: MIT
--
-- By name: what is wrong; `file`, below lua/pgcdc, and `changes`, a list of {text that is in it
-- once, text in its place}; or `program`, the ending of a program that is linked for it (seq_*.c is
-- of that kind). `found_by`: the driver and the case that find it out, see contract_cases.lua, and
-- part of what that says.

return {
   -- The savepoint is stored first, then the data that it speaks of.
   savepoint_before_data = {
      file = "sinks/remote.lua",
      found_by = { "nats", "vanished", "is not there as it is" },
      changes = { { [[
   home.kind.send(home, parts[1].seal, savepoint, parts)
   if home.kind.commit then
      home.kind.commit(home, savepoint, parts)
   end]], [[
   if home.kind.commit then
      home.kind.commit(home, savepoint, parts)
   end
   home.kind.send(home, parts[1].seal, savepoint, parts)]] } },
   },

   -- A flush is over when all was sent, whatever is answered.
   flush_without_answers = {
      file = "sinks/http_flush.lua",
      found_by = { "http_one", "trouble", "is not there as it is" },
      changes = { { [[
   elseif verdict == "later" then
      run.problem = message
      set_later(run, batch, seconds)]], [[
   elseif verdict == "later" then
      set_done(run, batch)]] } },
   },

   -- A program that was replaced can go on.
   no_fence_redis = {
      file = "sinks/redis_transaction.lua",
      found_by = { "redis_hash", "held", "was deleted, and is there" },
      changes = {
         { 'ask(sink, false, "WATCH", sink.epoch_key, sink.savepoint_key)', "" },
         { 'client:call("WATCH", sink.epoch_key, sink.savepoint_key)', 'client:call "PING"' },
      },
   },
   no_fence_nats = {
      file = "sinks/nats.lua",
      found_by = { "nats", "held", "there twice" },
      changes = { {
         '{ "Nats-Expected-Last-Subject-Sequence", tostring(sink.position_seq),', '{ "X", "x",',
      } },
   },

   no_fence_kafka = {
      file = "sinks/kafka/settings.lua",
      found_by = { "kafka", "held", "the end of the program" }, -- a transaction stays open
      changes = { { 'all["transactional.id"] = sink.id\n',
         'all["transactional.id"] = sink.id .. raw.now()\n' } },
   },

   -- A flush is over before the library's queue is empty.
   no_drain = {
      file = "sinks/kafka/sink.lua",
      found_by = { "kafka_plain", "trouble", "is not there as it is" },
      changes = { {
         "while sink.client:outstanding() > 0 and sink.client:failed() == 0 do", "while false do",
      } },
   },

   -- What an unfinished flush has brought is not looked for: all of it is sent again.
   no_tail = {
      file = "sinks/nats.lua",
      found_by = { "nats", "held", "there twice" },
      changes = { { "local tail = next(sink.tail) and sink.tail or nil", "local tail" } },
   },

   -- It is taken for the beginning of the batch that is to be sent.
   dedup_by_batch = {
      file = "sinks/nats.lua",
      found_by = { "nats", "held", "is not there as it is" },
      changes = {
         { 'tail[name .. "\\0" .. id] = true', "tail[#tail + 1] = true" },
         { "local tail = next(sink.tail) and sink.tail or nil", [[local tail = {}
            each(sink, upto, function(number, _, id, name)
               if id and number <= #sink.tail then
                  tail[name .. "\0" .. id] = true
               end
            end)]] },
      },
   },

   -- A start counts from the last number that was saved, not from one that none has reached.
   seq_saved = {
      program = "seq_saved",
      found_by = { "opensearch", "held", "is not there as it is" },
   },

   -- What only the target has of states is saved, but not given to the script.
   states_not_adopted = {
      file = "delivery/recovery.lua", found_by = { "redis_stream", "big", 'expected: {"42"}' },
      changes = { { "adopt(theirs.records)", "raw.save(theirs.records)" } },
   },

   -- What is refused is left out, and nobody is told.
   refused_in_silence = {
      file = "sinks/http_flush.lua", found_by = { "http_one", "refused_stop", "expected: {1}" },
      changes = { {
         'elseif verdict == "refused" then\n      set_refused(run, batch, message)',
         'elseif verdict == "refused" then\n      set_done(run, batch)',
      } },
   },

   -- A position is not held against what the target has: it is believed.
   went_back_unnoticed = {
      file = "delivery/recovery.lua", found_by = { "redis_stream", "restored", "is not there" },
      changes = { { "      go_back(participant, mine, theirs)\n", "\n" } },
   },

   -- A savepoint is prepared when the target has its short text already.
   prepared_after_the_commit = {
      file = "delivery/checkpoint.lua",
      found_by = { "prepared", "dies", "was prepared by another state file" },
      changes = {
         { "raw.save(prepared)", "attempt.prepared = prepared" },
         { "flush_targets(targets, attempt, upto)\nend",
           "flush_targets(targets, attempt, upto)\nraw.save(attempt.prepared or {})\nend" },
      },
   },

   -- It is removed before the target has it.
   prepared_removed_before_the_commit = {
      file = "delivery/checkpoint.lua",
      found_by = { "prepared", "dies", "was prepared by another state file" },
      changes = { { "raw.save(prepared)", [[
         raw.save(prepared)
         for _, record in ipairs(prepared) do record[4] = false end
         raw.save(prepared)]] } },
   },
}
