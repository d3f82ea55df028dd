-- pgcdc.sinks.file: what the sinks that write files have in common.
-- SPDX-License-Identifier: MIT
--
-- A sink writes to one file (see one_file), or to one of many for each value (see many_files). It
-- has what a file has, and what its kind has.
--
-- A kind has these functions, the last three if it needs them:
--    put(self, file, value)         adds one value to the buffer; returns how many bytes that has
--    line(self, value)              returns its text for standard output
--    begin(self, is_empty, token)   a file was found; token: what was saved of it, or nil
--    tell(self, token)              adds to the token
--    renew(self)                    a new file has begun
--
-- The token of one file is {length =, since = when the file began, to = the name that the file is
-- to get, or nil}.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local participants = require "pgcdc.delivery.participants"
local recovery = require "pgcdc.delivery.recovery"
local many_files = require "pgcdc.sinks.many_files"
local one_file = require "pgcdc.sinks.one_file"
local path = require "pgcdc.sinks.path"
local seal = require "pgcdc.seal"

local file_sink = {}

local time = os.time

-- ---- the options ----

local function rotation(what, value)
   if value == nil then
      return nil
   end
   check.type(what, value, "table")
   value = check.taken(what, value, { size = true, every = true })
   if value.size == nil and value.every == nil then
      check.fail('%s must say when: {size = "100M"}, {every = 3600}, or both', what)
   end
   return { size = value.size ~= nil and check.size(what .. ".size", value.size) or nil,
            every = value.every ~= nil and check.seconds(what .. ".every", value.every, 1) or nil }
end

-- The absolute path without symbolic links, also of a file that is not there in a folder that is.
-- Other paths stay as they are.
local function resolve(given)
   local kind = raw.file_stat(given)
   if kind == "file" or kind == "folder" then
      return raw.file_real_path(given)
   elseif kind then
      return given
   end
   local folder, name = one_file.split(given)
   folder = raw.file_real_path(folder)
   return folder and (folder == "/" and "/" or folder .. "/") .. name or given
end

local standard = { ["-"] = true, ["/dev/stdout"] = true, ["/dev/fd/1"] = true }

-- ---- the sink of one file ----

local Sink = { enters_itself = true, saves_itself = true }

-- Renames the file, and begins a new one.
local function rotate(self, to)
   one_file.move(self, to)
   one_file.open(self)
   one_file.flush_all() -- the new name, too
   if self.participant then
      participants.set_dirty(self.participant) -- the new file has a token of its own
   end
end

--- Takes one value.
function Sink:write(value)
   local before = participants.enter_sink(self)
   participants.touch(self.participant)
   if not self.is_ready then
      recovery.prepare(self.participant)
   end
   one_file.add(self, value)
   participants.leave_sink(before)
end

-- How much of the file stays at the first start, when no token was ever saved.
local function begin_anew(self, length)
   if self.append or (length or 0) == 0 then
      return length or 0
   end
   local to = one_file.rotated_name(self)
   one_file.move(self, to)
   raw.log("info", "a new file begins: the one that was there has another name now",
      { path = self.path, name = to })
   return 0
end

--- Makes the file what it was when the token was saved; nil: no token was ever saved.
function Sink:restore(token)
   local kind, length = raw.file_stat(self.path)
   local was_rotated = token and token.to and one_file.was_moved(self, token.to)
   if token and not was_rotated and (kind == nil or kind == "file") then
      one_file.check_length(self, token.length, length)
   end
   one_file.claim(self)
   one_file.open(self)
   self.is_ready, self.is_known = true, token ~= nil
   if not self.is_exact then
      return
   end
   if token then
      one_file.cut_back(self, was_rotated and 0 or token.length)
   else
      self.length = begin_anew(self, self.file:length())
      one_file.open(self)
   end
   self.since = self.length > 0 and (token and token.since or time()) or nil
   if self.begin then
      self:begin(self.length == 0, not was_rotated and token or nil)
   end
   if token and token.to and not was_rotated then
      rotate(self, token.to)
   end
end

--- What is to be saved of the file as it is.
function Sink:token()
   local token = { length = self.length, since = self.since, to = self.to }
   if self.tell then
      self:tell(token)
   end
   return token
end

--- Everything is on disk when it returns. Returns the token; nil if this is not a regular file.
function Sink:flush()
   if not self.is_ready then
      recovery.prepare(self.participant)
   end
   one_file.flush_all()
   if not self.is_exact then
      return nil
   end
   one_file.flushed(self)
   self.is_known = true
   return self:token()
end

--- The token was saved: the file may be renamed now, if nothing was written since.
function Sink:saved(token)
   if token.length == self.length and token.to == self.to and not self.has_unflushed then
      one_file.saved(self)
      if self.to then
         rotate(self, self.to)
      end
   end
end

--- Writes out what is left (a regular file was flushed before) and closes the file.
function Sink:close()
   one_file.close(self)
end

-- ---- --check ----

--- For --check: whether the file, or what is to be made in the folders above it, can be written.
--- Makes nothing, and opens nothing. Returns a line about it; ends the program with why not.
function Sink:check()
   local ok, text = pcall(one_file.check, self.path, self.root_is_folder)
   if not ok then
      raw.refuse(("%s: %s"):format(self.name, text))
   end
   return text
end

-- ---- making one ----

local print = print

-- A sink that prints. The program flushes standard output.
local Printer = {}
Printer.__index = Printer
seal.sink(Printer, "pgcdc.sinks.printer")

function Printer:write(value)
   print(self.line(self, value))
end

local function print_sink(kind)
   return setmetatable({ kind = kind.kind, line = kind.line }, Printer)
end

--- Makes a kind of file: {kind = name, fields = {name = true}, put =, line = and so on}.
function file_sink.kind(kind)
   kind.__index = kind
   return setmetatable(kind, { __index = Sink })
end

-- The options that all kinds have, checked.
local function read_spec(kind, what, spec)
   local known = { path = true, dir = true, name = true, rotate = true, append = true }
   for field in pairs(kind.fields or {}) do
      known[field] = true
   end
   spec = check.type(what .. ": its argument", spec or {}, "table")
   spec = check.taken(what, spec, known)
   if spec.name ~= nil then
      check.text(what .. ": name", spec.name)
   end
   if spec.dir ~= nil then
      check.text(what .. ": dir", spec.dir)
      if type(spec.path) ~= "function" then
         check.fail("%s: dir is for a path that is a function", what)
      end
   end
   return spec
end

-- The root of a sink of many files, and its function from values to paths; nil: it has one file.
local function many_of(what, spec)
   if type(spec.path) == "function" then
      return spec.dir or ".", path.from_function(what, spec.path)
   elseif type(spec.path) == "string" and path.is_pattern(spec.path) then
      return path.pattern(what .. ": path", spec.path)
   end
end

--- Makes a sink of a kind. `spec` is what the user gave: path, dir, name, rotate, append, and the
--- kind's own fields. Returns it, and the fields as they were read.
function file_sink.new(kind, spec)
   local what = "pgcdc.sinks." .. kind.kind
   spec = read_spec(kind, what, spec)
   local root, path_of = many_of(what, spec)
   local given = not root and check.text(what .. ": path", spec.path == nil and "-" or spec.path)
   local rotates = rotation(what .. ": rotate", spec.rotate)
   if standard[given] then
      if rotates then
         check.fail("%s: rotate is for files, and standard output is none", what)
      end
      return print_sink(kind), spec
   elseif raw.is_sandboxed then
      check.fail("%s: the sandbox allows no files; without a path it writes to standard output",
         what)
   end
   given = resolve(root or path.plain(given))
   local self = one_file.new({
      path = given,
      append = check.type(what .. ": append", spec.append == nil or spec.append, "boolean"),
      rotate = rotates, is_exact = false,
   }, kind)
   if root and not self.append then
      check.fail("%s: append = false is for a single file", what)
   end
   local shown = root and (given == "/" and "" or given) .. "/"
      .. (type(spec.path) == "string" and spec.path:match "[^/]*{.*$" or "...") or given
   self.name = spec.name or kind.kind .. " " .. shown
   self.sink_name = self.name
   return root and many_files(self, given, path_of) or self, spec
end

--- To be called with a sink of `file_sink.new` when it is complete. Returns it.
function file_sink.register(self)
   self.promise = {
      crash = self.path and "exactly once in a regular file" or "at least once",
      position = "the state file", order = "the source's",
   }
   if self.path then
      self.participant = participants.sink(self)
      self.participant.about = "file"
   end
   return self
end

return file_sink
