-- pgcdc.sinks.one_file: one file that a sink writes.
-- SPDX-License-Identifier: MIT
--
-- Exactly once in a regular file: at each flush its length is known, and saved with the positions.
-- A start cuts off what the file has beyond that, if the journal proves that it is ours; what
-- somebody else wrote to it, or put in its place, is never cut: that is an error.
--
-- Lines are buffered. When a flush is due, or the buffers of all files together are large, all of
-- them are written: what is going to be written goes to the journal first, for all files at once.
-- Syncing is for all files at once, too: a flush of a thousand files costs little more than of one.
--
-- Rotation: a flush that finds the file large or old enough decides the name that it is to get.
-- When that is saved, and not before, the file is renamed. So a start knows what a crash
-- interrupted: if there is a file of that name, the rotation was done, and what is in the current
-- file was never saved; else the rotation is still to be done.
--
-- A file has the functions and options of its kind (see file), and:
--    path, folder, base   base: the name without the folder
--    sink_name            of the sink that writes it
--    below                the path below the root, of a sink of many files
--    inside               the folder that it must be in, as a real path; nil: it may be anywhere
--    file                 the buffer, and the file where that is open (see src/lua/api_file.h)
--    is_exact             it is a regular file
--    is_known             something of it is saved
--    length               how long it was when it was written last
--    buffered             bytes in the buffer
--    used                 when it was written last, counted in writes of all files
--    has_unflushed        something was written since the last flush
--    since                when it began, in seconds since 1970; nil: it is empty
--    to                   the name that it is to get, or nil

local raw = require "pgcdc.raw"
local journal = require "pgcdc.sinks.journal"

local one_file = {}

local LOT = 4 << 20 -- bytes: when the buffers of all files have more, all are written

local time, date = os.time, os.date

local used = 0             -- counts writes, to find the file that was written least recently
local buffered = 0         -- bytes in the buffers of all files
local pending = {}         -- files with something in the buffer: list, and set
local unsynced = {}        -- set of files that were written since they were synced
local unsaved = {}         -- set of files of which something is not saved
local unsynced_folders = {} -- set of folders in which files or folders were made
local open_files = {}      -- regular ones, open
local max_open             -- how many may be
local owners = {}          -- path -> the file that has it

local function fail(self, message, ...)
   error(("%s: %s"):format(self.path, message:format(...)), 0)
end

--- Raises an error that names the file. `message`, `...`: as for string.format.
one_file.fail = fail

-- ---- paths ----

--- The folder and the rest of a path.
function one_file.split(path)
   local folder, name = path:match("^(.*)/([^/]*)$")
   if not folder then
      return ".", path
   end
   return folder == "" and "/" or folder, name
end

--- Makes a file. `fields`: path, sink_name, inside. `parent`: a table that has the functions and
--- options of its kind.
function one_file.new(fields, parent)
   local self = fields
   self.folder, self.base = one_file.split(self.path)
   self.file = raw.file_new(self.path)
   self.length, self.buffered, self.used = 0, 0, 0
   return setmetatable(self, parent)
end

--- To be called before the first write: no two files of the script have one path.
function one_file.claim(self)
   local owner = owners[self.path]
   if owner and owner ~= self then
      fail(self, "another sink or program is writing to this file")
   end
   owners[self.path] = self
end

local function is_inside(path, root)
   return path == root or root == "/" or path:sub(1, #root + 1) == root .. "/"
end

local function check_inside(self, path)
   local real = raw.file_real_path(path)
   if not real or not is_inside(real, self.inside) then
      fail(self, "a symbolic link leads out of the folder %s", self.inside)
   end
end

-- Makes the folders between `inside` and the file.
local function make_folders(self)
   if raw.file_stat(self.folder) then
      check_inside(self, self.folder)
      return
   end
   local at = #self.inside + 2
   for stop in (self.folder .. "/"):gmatch "()/" do
      if stop > at then
         local folder = self.folder:sub(1, stop - 1)
         if raw.file_make_folder(folder, true) then
            unsynced_folders[one_file.split(folder)] = true
         end
         check_inside(self, folder)
      end
   end
end

-- ---- open files ----

-- Closes the files that were written least recently, a quarter of all.
local function make_room()
   max_open = max_open or math.max(raw.file_limit() * 2 // 3, 16)
   if #open_files < max_open then
      return
   end
   table.sort(open_files, function(a, b) return a.used > b.used end)
   for i = #open_files, #open_files - max_open // 4, -1 do
      open_files[i].file:shut()
      open_files[i].is_open = nil
      open_files[i] = nil
   end
end

local function forget_open(self)
   self.file:shut()
   self.is_open = nil
   for i, file in ipairs(open_files) do
      if file == self then
         open_files[i] = open_files[#open_files]
         open_files[#open_files] = nil
         break
      end
   end
end

local function open(self)
   if self.is_open then
      return
   end
   make_room()
   if self.inside then
      make_folders(self)
   end
   local is_new = not raw.file_stat(self.path)
   if self.inside and not is_new then
      check_inside(self, self.path)
   end
   self.file:open()
   self.is_open = true
   self.is_exact = self.file:is_regular()
   if self.is_exact then
      open_files[#open_files + 1] = self
      used = used + 1
      self.used = used
   end
   if is_new then
      unsynced_folders[self.folder] = true
   end
end

-- How long the file is. Raises an error if somebody else has moved, replaced or cut it.
local function check_ours(self)
   local length
   if self.is_open then
      if not self.file:is_at(self.path) then
         fail(self, "was moved, replaced or deleted while I was writing to it; put it back, or "
            .. "start again with --reset; to begin new files now and then, use rotate")
      end
      length = self.file:length()
   else
      local _, there = raw.file_stat(self.path)
      length = there or 0
   end
   if length < self.length then
      fail(self, "was cut while I was writing to it: it has %d bytes, and had %d; put it back, or "
         .. "start again with --reset", length, self.length)
   end
   return length
end

-- ---- writing ----

-- Saves a token for each file that has none saved yet: after a crash it says from which offset on
-- the lines are of this run.
local function save_tokens()
   local records, files = {}, {}
   for _, self in ipairs(pending) do
      if self.is_exact and not self.is_known then
         local text = raw.encode(self:token())
         files[#files + 1] = self
         self.participant.token = text
         records[#records + 1] = { "sink", self.name, "", text }
      end
   end
   if raw.source_count() > 0 then
      raw.save(records)
   end
   for _, self in ipairs(files) do
      self.is_known = true
   end
end

-- Writes what is in the buffers. What could not be written stays there.
local function write_out()
   local entries = {}
   save_tokens()
   for _, self in ipairs(pending) do
      if self.is_exact then
         self.at = check_ours(self)
         local sums, bytes = self.file:sums(self.at)
         entries[#entries + 1] = { sink = self.sink_name, below = self.below or "",
                                   at = self.at, bytes = bytes, sums = sums }
      end
   end
   journal.add(entries)
   for i = #pending, 1, -1 do
      local self = pending[i]
      open(self)
      if self.is_exact and self.file:length() ~= self.at then
         fail(self, "is being written to by another program; give each a file of its own")
      end
      self.file:flush()
      if self.is_exact then
         self.length = self.at + self.buffered
         unsynced[self], unsaved[self] = true, true
      end
      self.counts.bytes = self.counts.bytes + self.buffered
      buffered, self.buffered = buffered - self.buffered, 0
      pending[i], pending[self] = nil, nil
   end
end

--- Takes one value.
function one_file.add(self, value)
   local bytes = self:put(self.file, value)
   buffered, self.buffered = buffered + bytes - self.buffered, bytes
   used = used + 1
   self.used, self.has_unflushed = used, true
   if not pending[self] then
      pending[#pending + 1], pending[self] = self, true
   end
   if buffered > LOT then
      write_out()
   end
end

-- Syncs some of those that were written, as many as can be open.
local function sync_some()
   local files, handles = {}, {}
   for self in pairs(unsynced) do
      if #files < (max_open or 100) // 2 then
         files[#files + 1] = self
         used = used + 1
         self.used = used -- so that it stays open
         open(self)
         check_ours(self)
         handles[#files] = self.file
      end
   end
   raw.file_sync_all(handles)
   for _, self in ipairs(files) do
      unsynced[self] = nil
   end
end

--- Everything that was written to any file is on disk when it returns.
function one_file.flush_all()
   if #pending > 0 then
      write_out()
   end
   while next(unsynced) do
      sync_some()
   end
   for folder in pairs(unsynced_folders) do
      raw.file_sync_folder(folder)
   end
   unsynced_folders = {}
end

--- The file has been flushed. Decides whether it is to be rotated.
function one_file.flushed(self)
   self.has_unflushed = false
   if self.is_open then
      self.length = check_ours(self)
   end
   if self.length > 0 and not self.since then
      self.since = time()
   end
   local rotate = self.rotate
   if not self.to and rotate and self.length > 0 and (rotate.size and self.length >= rotate.size
      or rotate.every and time() - self.since >= rotate.every) then
      self.to = one_file.rotated_name(self)
   end
end

--- What was flushed of the file is saved.
function one_file.saved(self)
   unsaved[self] = nil
   if not next(unsaved) and #pending == 0 then
      journal.forget()
   end
end

--- Writes out what is left and closes the file.
function one_file.close(self)
   if self.buffered > 0 then
      write_out()
   end
   forget_open(self)
end

--- Forgets a file that is closed and saved.
function one_file.drop(self)
   forget_open(self)
   owners[self.path] = nil
end

-- ---- rotation ----

--- A name that no file has: for orders.jsonl orders-20261123T065012Z.jsonl, or, if that is taken,
--- orders-20261123T065012Z_2.jsonl.
function one_file.rotated_name(self)
   local stem, ending = self.base:match("^(.+)(%.[^.]*)$")
   local name = (stem or self.base) .. date("!-%Y%m%dT%H%M%SZ")
   local n, candidate = 1, name .. (ending or "")
   while raw.file_stat(self.folder .. "/" .. candidate) do
      n = n + 1
      candidate = ("%s_%d%s"):format(name, n, ending or "")
   end
   return candidate
end

--- Renames the file to `to`, in the same folder: the next one begins empty.
function one_file.move(self, to)
   forget_open(self)
   raw.file_rename(self.path, self.folder .. "/" .. to)
   self.length, self.to, self.since = 0, nil, nil
   unsynced_folders[self.folder] = true
   if self.renew then
      self:renew()
   end
end

--- True if the file was renamed to that name.
function one_file.was_moved(self, to)
   return raw.file_stat(self.folder .. "/" .. to) ~= nil
end

-- ---- --check ----

-- Raises an error unless the folder is there and can be written to. `makes`: it is made if it is
-- not there.
local function check_folder(folder, makes)
   local kind = raw.file_stat(folder)
   if kind == "folder" then
      raw.file_check_write(folder)
   elseif kind then
      error(folder .. ": is no folder", 0)
   elseif not makes or folder == "." or folder == "/" then
      error(folder .. ": there is no such folder", 0)
   else
      check_folder(one_file.split(folder), true)
   end
end

--- A line about a file that is to be written, or (is_folder) about the folder of many. Raises an
--- error if that cannot be.
function one_file.check(path, is_folder)
   local kind, length = raw.file_stat(path)
   if is_folder then
      check_folder(path, true)
      return ("folder %s%s"):format(path, kind and "" or ", which would be made")
   elseif not kind then
      check_folder((one_file.split(path)), false)
      return ("file %s, which would be made"):format(path)
   elseif kind == "folder" then
      error(path .. ": is a folder", 0)
   end
   raw.file_check_write(path)
   return kind == "file" and ("file %s, %d bytes"):format(path, length) or ("file %s"):format(path)
end

-- ---- a start ----

--- Opens the file.
one_file.open = open

--- The file has `length` bytes that were saved: cuts off what it has beyond them, if that is ours.
--- `entries`: what the journal has of it, by default all. Raises an error if it has less, or if
--- somebody else has written to it.
function one_file.cut_back(self, length, entries)
   local has = self.file:length()
   if has > length then
      entries = entries or journal.entries(self.sink_name)[""] or {}
      local ours = journal.reach(entries, self.path, length)
      if ours < has then
         fail(self, "it has %d bytes, of which I had saved %d, and somebody else has written since"
            .. ": cut the file to %d bytes (truncate -s %d) if these lines are of no use, or move "
            .. "them elsewhere; give each pipeline a file of its own", has, length, length, length)
      end
      raw.log("info", "cut off what was written after the last save: it comes again",
         { path = self.path, bytes = has - length })
      self.file:cut(length)
   end
   journal.settle(self.sink_name, self.below or "")
   self.length = length
end

--- Raises an error if the file is shorter than `length`, which was saved. `has`: its length; nil
--- if it is not there.
function one_file.check_length(self, length, has)
   if (has or 0) < length then
      fail(self, has and "has %d bytes, but I had written %d: it was cut or replaced by "
         .. "somebody; put it back, or start again with --reset" or
         "is not there, but I had written to it: put it back, or start again with --reset",
         has, length)
   end
end

return one_file
