-- pgcdc.postgres.answer: questions of our own to a server, and what their answers must be.
-- SPDX-License-Identifier: MIT
--
-- A server may send anything. So a question is its SQL together with the columns of its rows: each
-- row is checked against them, and code that reads the rows need check nothing. A row that does not
-- fit raises an error that begins with the statement, as in src/pg/wire.h.
--
--    local FIND = answer.question("SELECT oid::int8 AS oid, ...", { oid = "integer", ... })
--    local facts = FIND:maybe(run, name)
--
-- The kind of a column is "text", "integer", "boolean", "any", or what a JSON holds: "texts",
-- "integers" (lists) or answer.records {name = kind, ...} (a list of such tables). With a ? at its
-- end the value may be NULL. `run(sql, ...)` returns rows, or raises an error.

local answer = {}

local LONGEST = 60 -- bytes of the statement that are shown

local kinds = {}

function kinds.text(value)
   return type(value) == "string"
end

function kinds.integer(value)
   return math.type(value) == "integer"
end

function kinds.boolean(value)
   return type(value) == "boolean"
end

function kinds.any()
   return true
end

local function is_list(value, is_item)
   if type(value) ~= "table" then
      return false
   end
   local n = 0
   for _ in pairs(value) do
      n = n + 1
   end
   for i = 1, n do
      if not is_item(value[i]) then
         return false
      end
   end
   return true
end

function kinds.texts(value)
   return is_list(value, kinds.text)
end

function kinds.integers(value)
   return is_list(value, kinds.integer)
end

-- Why the value is not of the kind; nil if it is.
local function why_not(value, kind)
   local is_kind = kinds[kind] or type(kind) == "function" and kind
   if not is_kind then
      local name = kind:match "^(%l+)%?$"
      return value ~= nil and why_not(value, name) or nil
   elseif value == nil and not is_kind(nil) then
      return "is missing (NULL)"
   end
   return not is_kind(value) and ("is no %s"):format(type(kind) == "string" and kind
      or "such list") or nil
end

--- The kind of a list of tables, such as the fields of a row type. `may_be_null`: or NULL.
function answer.records(columns, may_be_null)
   return function(value)
      return value == nil and may_be_null or is_list(value, function(item)
         if type(item) ~= "table" then
            return false
         end
         for name, kind in pairs(columns) do
            if why_not(item[name], kind) then
               return false
            end
         end
         return true
      end)
   end
end

local Question = {}
Question.__index = Question

--- A question. `columns`: the names of the columns of its rows, and their kinds.
function answer.question(sql, columns)
   return setmetatable({ sql = sql, columns = columns }, Question)
end

--- Raises the error that the answer is not one to this question. `why`, `...`: as string.format.
function Question:fail(why, ...)
   local text = self.sql:match("^[^']*"):gsub("%s+", " "):gsub("^ ", "")
   local cut = text:sub(1, LONGEST)
   error(("the server's answer to \"%s%s\": %s"):format(cut,
      #cut < #self.sql and "..." or "", why:format(...)), 0)
end

--- Returns the rows, which are an answer to the question, else raises an error.
function Question:check(rows)
   for i, row in ipairs(rows) do
      for name, kind in pairs(self.columns) do
         local why = why_not(row[name], kind)
         if why then
            self:fail("the value of %s in row %d %s", name, i, why)
         end
      end
      for name in pairs(row) do
         if not self.columns[name] then
            self:fail("row %d has a column that was not asked for", i)
         end
      end
   end
   return rows
end

--- Asks it. Returns the rows.
function Question:rows(run, ...)
   return self:check(run(self.sql, ...))
end

--- Asks it. Returns the row, or nil where there is none.
function Question:maybe(run, ...)
   local rows = self:rows(run, ...)
   if #rows > 1 then
      self:fail "too many rows came"
   end
   return rows[1]
end

--- Asks it. Returns the row.
function Question:row(run, ...)
   return self:maybe(run, ...) or self:fail "no row came"
end

return answer
