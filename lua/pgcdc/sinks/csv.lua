-- pgcdc.sinks.csv: rows as CSV, RFC 4180 with lines that end as they do on Unix.
-- SPDX-License-Identifier: MIT
--
-- The columns of a file never change: they are those that were asked for, or those of its header,
-- or those of its first row.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local file_sink = require "pgcdc.sinks.file"
local whole = require "pgcdc.sinks.whole"

local csv = file_sink.kind { kind = "csv", fields = { columns = true, header = true, meta = true } }

local io = rawget(_G, "io") -- the sandbox has none, and no files either

-- The line of the names of the columns, without its end.
local function header_of(self)
   local row = {}
   for _, name in ipairs(self.columns) do
      row[name] = name
   end
   return (raw.csv_line(row, self.columns))
end

-- The part of a line that stands in front of the columns: fields of the change itself.
local function meta_of(self, value)
   local row = {}
   for _, name in ipairs(self.meta) do
      row[name] = value[name]
   end
   return (raw.csv_line(row, self.meta))
end

-- Warns, once, that a row has columns that the file does not have.
local function warn_of_others(self)
   if not self.has_warned then
      self.has_warned = true
      raw.log("warn", "a row has columns that the CSV has not: they are left out",
         { path = self.path })
   end
end

-- The line of a value, with the header before it if the file has none yet.
local function line_of(self, value)
   check.type("pgcdc.sinks.csv: a value", value, "table")
   whole.check("pgcdc.sinks.csv", value)
   self.columns = self.columns or raw.csv_names(value)
   local line, others = raw.csv_line(value, self.columns)
   if others > 0 and not self.is_chosen then
      warn_of_others(self)
   end
   if self.meta then
      line = meta_of(self, value) .. (#self.columns > 0 and "," .. line or "")
   end
   if self.header and not self.has_header then
      local header = header_of(self)
      if self.meta then
         header = header_of { columns = self.meta } .. (header ~= "" and "," .. header or "")
      end
      line = header .. "\n" .. line
   end
   return line
end

function csv.put(self, file, value)
   local bytes = file:add(line_of(self, value) .. "\n")
   self.has_header = true
   return bytes
end

function csv.line(self, value)
   local line = line_of(self, value)
   self.has_header = true
   return line
end

-- The fields of the first record of a CSV text, or nil if it does not end.
local function first_record(text)
   local fields, at = {}, 1
   while true do
      local field, stop
      if text:sub(at, at) == '"' then
         local parts = ""
         repeat
            local close = text:find('"', at + 1, true)
            if not close then
               return nil
            end
            parts = parts .. text:sub(at + 1, close - 1)
            at = close + 1
            local is_doubled = text:sub(at, at) == '"'
            parts = parts .. (is_doubled and '"' or "")
         until not is_doubled
         field, stop = parts, at
      else
         stop = text:find("[,\r\n]", at)
         if not stop then
            return nil
         end
         field = text:sub(at, stop - 1)
      end
      fields[#fields + 1] = field
      if text:sub(stop, stop) ~= "," then
         return fields
      end
      at = stop + 1
   end
end

-- The names in the first line of the file, or nil.
local function read_header(self)
   local file = assert(io.open(self.path, "rb"))
   local names = first_record(file:read(1 << 20) or "")
   file:close()
   return names
end

-- The names after those of `meta`, which must come first; nil if others come first.
local function names_after_meta(self, names)
   for i, name in ipairs(self.meta or {}) do
      if names[i] ~= name then
         return nil
      end
   end
   return table.move(names, #(self.meta or {}) + 1, #names, 1, {})
end

local function is_same(a, b)
   return table.concat(a, "\0") == table.concat(b, "\0")
end

--- The file was opened: takes the columns that it has. Raises an error if others were asked for.
function csv:begin(is_empty, token)
   self.has_header = not is_empty
   local names = token and token.columns
   if is_empty or not names and not self.header then
      return
   end
   names = names or read_header(self)
   local columns = names and names_after_meta(self, names)
   if not columns or self.is_chosen and not is_same(columns, self.columns) then
      error(("%s: %s, and not those that are asked for: use another file"):format(self.path, names
         and "its columns are " .. table.concat(names, ", ") or "it has no header"), 0)
   end
   self.columns = columns
end

--- Adds the names in the file's first line to the token, unless the file is empty.
function csv:tell(token)
   if token.length > 0 and self.columns then
      token.columns = table.move(self.columns, 1, #self.columns, #(self.meta or {}) + 1,
         setmetatable({ table.unpack(self.meta or {}) }, raw.array_metatable))
   end
end

--- A new file may have new columns.
function csv:renew()
   self.has_header = false
   if not self.is_chosen then
      self.columns = nil
   end
end

--- Makes a sink. `given`: its options, see lua/README.md.
return function(given)
   local self, spec = file_sink.new(csv, given)
   self.columns = check.names("pgcdc.sinks.csv: columns", spec.columns)
   self.is_chosen = self.columns ~= nil
   self.meta = check.names("pgcdc.sinks.csv: meta", spec.meta)
   self.header = check.type("pgcdc.sinks.csv: header", spec.header == nil or spec.header, "boolean")
   if self.files and not self.header and not self.is_chosen then
      check.fail("pgcdc.sinks.csv: with many files and header = false: say columns")
   end
   return file_sink.register(self)
end
