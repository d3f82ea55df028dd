-- pgcdc.sinks.journal: what sinks are about to write to files, so that a start knows its own lines.
-- SPDX-License-Identifier: MIT
--
--    the state file     a.jsonl has 400 bytes      (what was saved last)
--    the journal        a.jsonl: 100 bytes at 400, with these sums
--    a.jsonl            has 500 bytes, and these sums: the 100 are ours, and may be cut off
--
-- The journal is a file beside the state file. An entry is durable before its bytes are written. At
-- a start it proves that the bytes of a file beyond its saved length were written by this pipeline.
-- Entries about bytes that were saved since do no harm: they end before the saved length.
--
-- An entry: {sink = its name, below = the path below the root of a sink of many files, else "",
-- at = offset, bytes = how many, sums = see src/lua/api_file.h, epoch = see below}. It is a line of
-- JSON. (Files are not named by their full paths: they may be moved together with the state file.)

local raw = require "pgcdc.raw"

local journal = {
   epoch = 1, -- of new entries. Sinks of many files raise it at each flush, and save the one
              -- before: entries with a higher one are about bytes that were not saved
}

local FORGET_BYTES = 8 << 20 -- of the file, before entries that are of no use are dropped

local io = rawget(_G, "io") -- the sandbox has none, and no files either

local file          -- nil: not open yet
local found = {}    -- name of a sink -> path below its root -> entries of earlier runs, in order
local kept_bytes = 0 -- the length of the file when entries were dropped last

local function read(text)
   for line in text:gmatch "[^\n]+" do
      local entry = raw.decode(line)
      if type(entry) == "table" and entry.sums then -- else it is torn
         local files = found[entry.sink] or {}
         found[entry.sink] = files
         files[entry.below] = files[entry.below] or {}
         table.insert(files[entry.below], entry)
         journal.epoch = math.max(journal.epoch, entry.epoch + 1)
      end
   end
end

local function write(entries)
   for _, entry in ipairs(entries) do
      file:put(entry)
   end
   file:sync()
end

local function open()
   if file or not raw.state_file then
      return
   end
   raw.kept("serial", "") -- opens the state file, which locks out other programs
   local path = raw.state_file .. "-files"
   file = raw.file_new(path, true)
   file:open() -- it is ours, see src/base/path.h
   if file:length() > 0 then
      local old = assert(io.open(path, "rb"))
      read(old:read "a")
      old:close()
      file:add "\n" -- the last line may be torn
   else
      raw.file_sync_folder(path:match "^(.*)/[^/]*$" or ".")
   end
end

--- The entries of earlier runs of that sink: path below its root -> list, the oldest first.
function journal.entries(name)
   open()
   return found[name] or {}
end

--- The offset up to which the file, from `at` on, has what the entries say.
function journal.reach(entries, path, at)
   for _, entry in ipairs(entries) do
      if entry.at <= at and at < entry.at + entry.bytes then
         at = math.max(at, raw.file_matches(path, entry.at, entry.bytes, entry.sums))
      end
   end
   return at
end

--- Entries of earlier runs about that file are of no use any more.
function journal.settle(name, below)
   if found[name] then
      found[name][below] = nil
   end
end

--- Adds entries, which are durable when it returns.
function journal.add(entries)
   open()
   if file and #entries > 0 then
      for _, entry in ipairs(entries) do
         entry.epoch = journal.epoch
      end
      write(entries)
   end
end

--- Everything that sinks wrote is saved: entries of this run are of no use any more.
function journal.forget()
   if file and file:length() > 2 * kept_bytes + FORGET_BYTES then
      file:cut(0)
      for _, files in pairs(found) do
         for _, entries in pairs(files) do
            write(entries)
         end
      end
      kept_bytes = file:length()
   end
end

return journal
