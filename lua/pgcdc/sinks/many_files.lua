-- pgcdc.sinks.many_files: a sink that writes to many files, whose paths depend on the values.
-- SPDX-License-Identifier: MIT
--
-- Exactly once, as in one file. The token does not grow with the number of files: it is {epoch =,
-- to = {[path below the root] = the name that a file that is being rotated is to get}}. After a
-- crash the journal says which files were written in a later epoch, and from which offset on: there
-- they are cut.

local raw = require "pgcdc.raw"
local counts = require "pgcdc.sinks.counts"
local participants = require "pgcdc.delivery.participants"
local recovery = require "pgcdc.delivery.recovery"
local journal = require "pgcdc.sinks.journal"
local one_file = require "pgcdc.sinks.one_file"

local MAX_KEPT = 2000 -- files with a table in memory; the least recently written are dropped

local Many = { saves_itself = false, root_is_folder = true }

-- The file of that path below the root.
local function file_of(self, below)
   local child = self.files[below]
   if child then
      return child
   end
   child = one_file.new({ path = self.root .. "/" .. below, below = below, sink_name = self.name,
                          inside = self.root, is_exact = true, is_known = true }, self.of_file)
   local kind, length = raw.file_stat(child.path)
   if kind and kind ~= "file" then
      one_file.fail(child, "is no regular file")
   end
   one_file.claim(child)
   child.length = length or 0
   child.since = child.length > 0 and raw.file_written(child.path) or nil
   if child.begin then
      child:begin(child.length == 0)
   end
   self.files[below] = child
   self.count = self.count + 1
   return child
end

--- Takes one value.
function Many:write(value)
   local before = participants.enter_sink(self)
   participants.touch(self.participant)
   if not self.is_ready then
      recovery.prepare(self.participant)
   end
   local child = file_of(self, self.path_of(value))
   self.written[child] = true
   one_file.add(child, value)
   self.counts.taken = self.counts.taken + 1
   participants.leave_sink(before)
end

-- Makes the root, and the folders above it.
local function make_root(self)
   local path = self.path
   for stop in (path .. "/"):gmatch("()/") do
      if stop > 1 then
         raw.file_make_folder(path:sub(1, stop - 1))
      end
   end
   self.root = raw.file_real_path(path)
   if self.root == "/" then
      self.root = ""
   end
end

-- Cuts a file to the length that it had when the token was saved. `entries`: those of the journal
-- about what was written since.
local function cut_back(self, below, entries)
   local child = file_of(self, below)
   local kind, length = raw.file_stat(child.path)
   one_file.check_length(child, entries[1].at, kind and length)
   one_file.open(child)
   one_file.cut_back(child, entries[1].at, entries)
   if child.begin then
      child:begin(child.length == 0)
   end
end

--- Makes the files what they were when the token was saved; nil: no token was ever saved.
function Many:restore(token)
   self.is_ready = true
   make_root(self)
   for below, entries in pairs(token and journal.entries(self.name) or {}) do
      local since = {}
      for _, entry in ipairs(entries) do
         if entry.epoch > token.epoch then
            since[#since + 1] = entry
         end
      end
      if since[1] then
         cut_back(self, below, since)
      end
   end
   for below, to in pairs(token and token.to or {}) do
      local child = file_of(self, below)
      if not one_file.was_moved(child, to) then
         one_file.move(child, to)
      end
   end
   journal.epoch = math.max(journal.epoch, (token and token.epoch or 0) + 1)
end

--- Everything is on disk when it returns. Returns the token.
function Many:flush()
   if not self.is_ready then
      recovery.prepare(self.participant)
   end
   local began = raw.now()
   one_file.flush_all()
   counts.done(self.counts)
   self.counts.flush_seconds = raw.now() - began
   for child in pairs(self.written) do
      one_file.flushed(child)
      if child.to then
         self.rotating[child.below] = child.to
      end
      self.flushed[child] = true
   end
   self.written = {}
   self.epoch = journal.epoch
   journal.epoch = self.epoch + 1
   return { epoch = self.epoch, to = next(self.rotating) and self.rotating }
end

-- Drops the files that were written least recently, until half of them are left.
local function drop_some(self)
   local idle = {}
   for _, child in pairs(self.files) do
      if not self.written[child] and not child.to then
         idle[#idle + 1] = child
      end
   end
   table.sort(idle, function(a, b) return a.used < b.used end)
   for i = 1, math.min(#idle, self.count - MAX_KEPT // 2) do
      one_file.drop(idle[i])
      self.files[idle[i].below] = nil
      self.count = self.count - 1
   end
end

--- The token was saved. If it is the last one, and nothing was written since, files are renamed.
function Many:saved(token)
   if token.epoch ~= self.epoch or next(self.written) then
      return
   end
   for child in pairs(self.flushed) do
      one_file.saved(child)
   end
   self.flushed = {}
   for below, to in pairs(self.rotating) do
      one_file.move(self.files[below], to)
      participants.set_dirty(self.participant)
   end
   self.rotating = {}
   if self.count > MAX_KEPT then
      drop_some(self)
   end
end

--- What has become of the values. See lua/README.md.
function Many:stats()
   local bytes = 0
   for child in pairs(self.written) do
      bytes = bytes + child.buffered
   end
   return counts.stats(self.counts, bytes, self.is_ready or false)
end

--- Writes out what is left (what was saved was flushed before) and closes the files.
function Many:close()
   for _, child in pairs(self.files) do
      one_file.close(child)
   end
end

--- Makes `self`, a sink of a kind, one of many files. `root`: the folder that they are in;
--- `path_of`: a function from values to paths below it.
return function(self, root, path_of)
   for name, method in pairs(Many) do
      self[name] = method
   end
   self.path, self.path_of = root, path_of
   self.of_file = { __index = self }
   self.files, self.count = {}, 0  -- by their path below the root
   self.written = {}               -- set of files: since the last flush
   self.flushed = {}               -- set of files: flushed, and perhaps not saved
   self.rotating = {}              -- path below the root -> the name that the file is to get
   return self
end
