-- pgcdc.sinks.file: what the sinks that write files have in common.
-- SPDX-License-Identifier: MIT
--
-- Exactly once in a regular file: the token has the length of the file when it was flushed, and
-- restore cuts it back to that. Nobody else may cut, move or write the file: that ends the program.
--
-- Rotation: a flush that finds the file large or old enough adds the name that it is to get to the
-- token. When that token is saved, and not before, the file is renamed. So restore knows what a
-- crash interrupted: if there is a file of that name, the rotation was done, and what is in the
-- current file was never saved; else the rotation is still to be done.
--
-- A kind of file has these functions, the last three if it needs them:
--    put(sink, file, value)         writes one value
--    line(sink, value)              returns its text for standard output
--    begin(sink, is_empty, token)   the file was opened; token: what was saved of it, or nil
--    tell(sink, token)              adds to the token
--    renew(sink)                    a new file has begun
--
-- A token is {length =, since = when the file began, to = the name that the file is to get, or
-- nil}. A sink has these, and:
--    path, folder, base   of its file; base: the name without the folder
--    file                 open, or nil: closed to make room for others
--    used                 when it was written last, counted in writes of all sinks
--    is_open, is_exact    `restore` has opened it; it is a regular file
--    has_unflushed        something was written since the last flush

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local participants = require "pgcdc.delivery.participants"
local recovery = require "pgcdc.delivery.recovery"

local file_sink = {}

local MAX_OPEN = 100 -- files at a time; the least recently written one is closed

local time, date = os.time, os.date

-- ---- the options ----

-- "100M" as bytes.
local function size(what, value)
   check.type(what, value, "string", "number")
   local text = tostring(value)
   local bytes = text:find("^[%d.]+[KMGTkmgt]?$") and raw.size(text)
   if not bytes or bytes < 1 then
      check.fail('%s must be a size such as "100M", not %s', what, tostring(value))
   end
   return bytes
end

local function rotation(what, value)
   if value == nil then
      return nil
   end
   check.type(what, value, "table")
   check.fields(what, value, { size = true, every = true })
   if value.size == nil and value.every == nil then
      check.fail('%s must say when: {size = "100M"}, {every = 3600}, or both', what)
   end
   return { size = value.size ~= nil and size(what .. ".size", value.size) or nil,
            every = value.every ~= nil and check.seconds(what .. ".every", value.every, 1) or nil }
end

-- The folder and the rest of a path.
local function split(path)
   local folder, name = path:match("^(.*)/([^/]*)$")
   if not folder then
      return ".", path
   end
   return folder == "" and "/" or folder, name
end

-- The absolute path without symbolic links, also of a file that is not there in a folder that is.
-- Other paths stay as they are.
local function resolve(path)
   local kind = raw.file_stat(path)
   if kind == "file" then
      return raw.file_real_path(path)
   elseif kind then
      return path
   end
   local folder, name = split(path)
   folder = raw.file_real_path(folder)
   return folder and (folder == "/" and "/" or folder .. "/") .. name or path
end

local standard = { ["-"] = true, ["/dev/stdout"] = true, ["/dev/fd/1"] = true }

-- ---- open files ----

local open_sinks = {} -- those with an open regular file
local used = 0        -- counts writes, to find the sink that was written least recently

local Sink = { enters_itself = true }

local function fail(self, message, ...)
   error(("%s: %s"):format(self.path, message:format(...)), 0)
end

-- Raises an error if somebody else has touched the file. Returns its length.
local function check_ours(self)
   local file = self.file
   if not file:is_at(self.path) then
      fail(self, "was moved, replaced or deleted while I was writing to it; put it back, or start "
         .. "again with --reset; to begin new files now and then, use rotate")
   end
   local length = file:length()
   if length < self.length then
      fail(self, "was cut while I was writing to it: it has %d bytes, and had %d; put it back, or "
         .. "start again with --reset", length, self.length)
   end
   return length
end

-- Makes everything durable and closes the file; writing opens it again.
local function park(self)
   self.file:sync()
   self.length = check_ours(self)
   self.file:close()
   self.file = nil
   for i, sink in ipairs(open_sinks) do
      if sink == self then
         table.remove(open_sinks, i)
         break
      end
   end
end

-- Closes files until one more may be opened.
local function make_room()
   while #open_sinks >= MAX_OPEN do
      local oldest = open_sinks[1]
      for _, sink in ipairs(open_sinks) do
         if sink.used < oldest.used then
            oldest = sink
         end
      end
      park(oldest)
   end
end

-- Opens the file, which is made if it is not there. Returns it.
local function open(self)
   make_room()
   local is_new = not raw.file_stat(self.path)
   local file = raw.file_open(self.path)
   if file:is_regular() then
      open_sinks[#open_sinks + 1] = self
      used = used + 1
      self.used = used
   end
   self.file = file
   if is_new then
      raw.file_sync_folder(self.folder)
   end
   return file
end

-- Opens the file again, which `park` has closed. Raises an error if somebody else has changed it.
local function reopen(self)
   local kind, length = raw.file_stat(self.path)
   if kind ~= "file" or length ~= self.length then
      fail(self, "was changed by somebody else; put it back, or start again with --reset")
   end
   return open(self)
end

-- ---- rotation ----

-- A name that no file has: for orders.jsonl orders-20261123T065012Z.jsonl, or, if that is taken,
-- orders-20261123T065012Z_2.jsonl.
local function rotated_name(self)
   local stem, ending = self.base:match("^(.+)(%.[^.]*)$")
   local name = (stem or self.base) .. date("!-%Y%m%dT%H%M%SZ")
   local n, candidate = 1, name .. (ending or "")
   while raw.file_stat(self.folder .. "/" .. candidate) do
      n = n + 1
      candidate = ("%s_%d%s"):format(name, n, ending or "")
   end
   return candidate
end

-- True if a file of this length is to be rotated.
local function is_due(self, length)
   local rotate = self.rotate
   return rotate and length > 0 and (rotate.size and length >= rotate.size
      or rotate.every and time() - self.since >= rotate.every)
end

-- Renames the file to `to`, in the same folder, and begins a new one.
local function rotate(self, to)
   if self.file then
      park(self)
   end
   raw.file_rename(self.path, self.folder .. "/" .. to)
   self.length, self.to, self.since = 0, nil, nil
   open(self)
   raw.file_sync_folder(self.folder)
   if self.renew then
      self:renew()
   end
   if self.participant then
      participants.set_dirty(self.participant) -- the new file has a token of its own
   end
end

-- ---- the sink ----

--- Takes one value.
function Sink:write(value)
   local before = participants.enter_sink(self)
   participants.touch(self.participant)
   local file = self.file
   if not file then
      recovery.prepare(self.participant)
      file = self.file or reopen(self)
   end
   used = used + 1
   self.used = used
   self:put(file, value)
   self.has_unflushed = true
   participants.leave_sink(before)
end

-- Raises an error if the file has less than `token` says. `length`: nil if it is not there.
local function check_length(self, token, length)
   if (length or 0) < token.length then
      fail(self, length and "has %d bytes, but I had written %d: it was cut or replaced by "
         .. "somebody; put it back, or start again with --reset" or
         "is not there, but I had written to it: put it back, or start again with --reset",
         length, token.length)
   end
end

--- Makes the file what it was when the token was saved; nil: no token was ever saved.
function Sink:restore(token)
   local kind, length = raw.file_stat(self.path)
   local was_rotated = token and token.to and raw.file_stat(self.folder .. "/" .. token.to)
   if token and not was_rotated and (kind == nil or kind == "file") then
      check_length(self, token, length)
   end
   local file = open(self)
   self.is_open = true -- but closed at times, to make room: see park
   self.is_exact = file:is_regular()
   if not self.is_exact then
      return
   end
   local keeps = was_rotated and 0 or token and token.length or self.append and length or 0
   if file:length() > keeps then
      file:cut(keeps)
   end
   self.length = keeps
   self.since = keeps > 0 and (token and token.since or time()) or nil
   if self.begin then
      self:begin(keeps == 0, not was_rotated and token or nil)
   end
   if token and token.to and not was_rotated then
      rotate(self, token.to)
   end
end

--- Everything is on disk when it returns. Returns the token; nil if this is not a regular file.
function Sink:flush()
   if not self.is_open then
      recovery.prepare(self.participant)
   end
   local file = self.file
   if not self.is_exact then
      file:flush()
      return nil
   end
   if file then
      file:sync()
      self.length = check_ours(self)
   end
   self.has_unflushed = false
   if self.length > 0 and not self.since then
      self.since = time()
   end
   if not self.to and is_due(self, self.length) then
      self.to = rotated_name(self)
   end
   local token = { length = self.length, since = self.since, to = self.to }
   if self.tell then
      self:tell(token)
   end
   return token
end

--- The token was saved: the file may be renamed now, if nothing was written since.
function Sink:saved(token)
   if self.to and token.to == self.to and token.length == self.length
      and not self.has_unflushed then
      rotate(self, self.to)
   end
end

--- Writes out what is left (a regular file was flushed before) and closes the file.
function Sink:close()
   if self.file then
      self.file:flush()
      self.file:close()
      self.file = nil
   end
end

-- ---- making one ----

-- Makes a sink that prints. The program flushes standard output.
local function print_sink(kind)
   local print = print
   return {
      kind = kind.kind,
      write = function(self, value)
         print(kind.line(self, value))
      end,
   }
end

--- Makes a kind of file: {kind = name, fields = {name = true}, put =, line = and so on}.
function file_sink.kind(kind)
   kind.__index = kind
   return setmetatable(kind, { __index = Sink })
end

--- Makes a sink of a kind. `spec` is what the user gave: path, name, rotate, append, and the
--- kind's own fields.
function file_sink.new(kind, spec)
   local what = "pgcdc.sinks." .. kind.kind
   local known = { path = true, name = true, rotate = true, append = true }
   for field in pairs(kind.fields or {}) do
      known[field] = true
   end
   spec = check.type(what .. ": its argument", spec or {}, "table")
   check.fields(what, spec, known)
   if spec.name ~= nil then
      check.text(what .. ": name", spec.name)
   end
   local path = check.text(what .. ": path", spec.path == nil and "-" or spec.path)
   local rotates = rotation(what .. ": rotate", spec.rotate)
   if standard[path] then
      if rotates then
         check.fail("%s: rotate is for files, and standard output is none", what)
      end
      return print_sink(kind)
   elseif raw.is_sandboxed then
      check.fail("%s: the sandbox allows no files; without a path it writes to standard output",
         what)
   end
   path = resolve(path)
   local self = setmetatable({
      path = path, name = spec.name or kind.kind .. " " .. path,
      append = check.type(what .. ": append", spec.append == nil or spec.append, "boolean"),
      rotate = rotates, length = 0, is_exact = false,
   }, kind)
   self.folder, self.base = split(path)
   return self
end

--- To be called with a sink of `file_sink.new` when it is complete. Returns it.
function file_sink.register(self)
   if self.path then
      self.participant = participants.sink(self)
   end
   return self
end

return file_sink
