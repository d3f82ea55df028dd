-- random_types.lua: types of all sorts, and random values for each, as SQL.
-- SPDX-License-Identifier: MIT
--
-- A type is {name =, make =, ...}: make() returns an expression of the type. Marks: `is_document`,
-- its values are JSON; `is_vague`, Postgres does not read its text back; `one_way`, Postgres makes
-- other values of its JSON (as it must where columns come as JSON); `is_nested`, the same within
-- arrays; `has_cast`, the same within arrays and rows. What it has inside that loses something
-- there: `has_digits` (numeric, a number in Lua), `has_bytes` (bytea, hex digits), `has_documents`.

local random_types = {}

local atoms = {
   "a", "Z", "0", " ", "\t", "\n", "\r", "\b", "\f", "\v", "\\", "\\\\", '"', "'", "`", "\\N",
   "\\.", "{", "}", ",", "(", ")", "[", "]", ":", "/", "<", "&", "%", "$1", "NULL", "null",
   "\\u0000",
   "\1", "\2", "\14", "\27", "\31", "\127", "é", "ß", "\u{80}", "\u{85}", "\u{7FF}", "\u{800}", "漢",
   "\u{2028}", "\u{FEFF}", "\u{FFFD}", "\u{FFFF}", "🐘", "\u{10000}", "\u{10FFFF}",
}

-- Everything that random values are made of: rng, escape(text) -> literal, and the encoding.
local function tools(rng, escape, encoding)
   local t = { rng = rng, escape = escape }

   -- A text of UTF-8, without what the encoding does not have.
   function t.fit(text)
      return encoding == "LATIN1" and text:gsub(utf8.charpattern, function(c)
         return utf8.codepoint(c) > 0xFF and "ÿ" or c
      end) or text
   end

   function t.one(list)
      return list[rng:int(1, #list)]
   end

   function t.text(most)
      local n = rng:chance(10) and 0 or rng:int(1, most or 12)
      local parts = {}
      for i = 1, n do
         parts[i] = t.one(atoms)
      end
      local text = t.fit(table.concat(parts))
      return not most and rng:chance(1) and text:rep(rng:int(100, 900)) or text
   end

   -- A text that a type may cut off; in SQL_ASCII it would do so in the middle of a letter.
   function t.cut(most)
      return t.text(encoding == "SQL_ASCII" and most or nil)
   end

   function t.bits(n)
      return rng:int(0, (1 << n) - 1)
   end

   function t.digits(n)
      local parts = {}
      for i = 1, n do
         parts[i] = rng:int(0, 9)
      end
      return table.concat(parts)
   end

   function t.hex(n)
      local parts = {}
      for i = 1, n do
         parts[i] = ("%x"):format(rng:int(0, 15))
      end
      return table.concat(parts)
   end

   -- An integer of so many bits; small ones and both ends are as likely as the rest.
   function t.integer(bits)
      local least = -(1 << (bits - 1))
      local how = rng:int(1, 4)
      if how == 1 then
         return t.one { 0, 1, -1, least, -(least + 1), least + 1 }
      elseif how == 2 then
         return rng:int(-1000, 1000)
      end
      local n = t.bits(rng:int(1, bits - 1))
      return rng:chance(50) and n or -n
   end

   function t.float(format, size)
      local how = rng:int(1, 10)
      if how == 1 then
         return t.one { "NaN", "Infinity", "-Infinity", "-0", "0", "1e15", "1e16", "0.1", "1e-5" }
      elseif how < 5 then
         return ("%.6g"):format(rng:float(-1e6, 1e6))
      end
      local value = string.unpack(format, string.pack("<I" .. size, t.bits(size * 8 - 1)
         | (rng:chance(50) and 1 << size * 8 - 1 or 0)))
      return (value ~= value or value == math.huge or value == -math.huge) and "1.5"
         or ("%.17g"):format(value)
   end

   -- A finite number that is not too big for a calculation.
   function t.modest()
      return ("%.6g"):format(rng:float(-1e4, 1e4))
   end

   return t
end

-- ---- JSON ----

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t" }

local function json_string(text)
   return '"' .. text:gsub('[%c"\\]', function(c)
      return escapes[c] or ("\\u%04x"):format(c:byte())
   end) .. '"'
end

local function document(t, depth)
   local rng = t.rng
   local how = rng:int(depth > 0 and 1 or 3, 8)
   local blank = t.one { "", "", " ", "\n\t" }
   if how <= 2 then
      local parts = {}
      for i = 1, rng:int(0, 4) do
         parts[i] = (how == 1 and json_string("k" .. i .. t.text(3)) .. blank .. ":" or "")
            .. document(t, depth - 1)
      end
      local inside = blank .. table.concat(parts, "," .. blank) .. blank
      return how == 1 and "{" .. inside .. "}" or "[" .. inside .. "]"
   elseif how == 3 then
      return t.one { "true", "false", "null", "{}", "[]" }
   elseif how == 4 then
      return ("%d"):format(t.integer(64))
   elseif how == 5 then
      return ("%.15g"):format(rng:float(-1e9, 1e9))
   end
   return json_string(t.text(8))
end

-- ---- built-in types ----

local function quoted(t, f)
   return function(...)
      return t.escape(tostring(f(...)))
   end
end

-- Most moments are of our time, some at the ends of the range.
local function moment(t)
   local days = t.rng:chance(70) and t.rng:int(-40000, 40000) or t.rng:int(-2451000, 106000000)
   return days, t.rng:int(0, 86399999999)
end

local function stamp(t, kind)
   return function()
      if t.rng:chance(5) then
         return ("'%s'"):format(t.one { "infinity", "-infinity", "4714-11-24 BC",
            "294276-12-31 23:59:59", "0001-01-01 00:00 BC", "1970-01-01" })
      end
      local days, us = moment(t)
      return ("%s '2000-01-01' + interval '%d days %d.%06d s'"):format(kind, days,
         us // 1000000, t.rng:chance(30) and 0 or us % 1000000)
   end
end

local function clock(t)
   return ("%02d:%02d:%02d%s"):format(t.rng:int(0, 23), t.rng:int(0, 59), t.rng:int(0, 59),
      t.one { "", ".5", ".000001", ".999999" })
end

local function point(t)
   return ("(%s,%s)"):format(t.modest(), t.modest())
end

local function points(t, open, close)
   return function()
      local parts = {}
      for i = 1, t.rng:int(2, 5) do
         parts[i] = point(t)
      end
      return open .. table.concat(parts, ",") .. close
   end
end

local function numeric(t)
   return function()
      local how = t.rng:int(1, 12)
      if how == 1 then
         return t.one { "NaN", "0", "-0.0", "1e1000", "-1e-1000", "0.10", "Infinity", "-Infinity" }
      end
      return t.one { "", "-" } .. t.digits(t.rng:int(1, how == 2 and 300 or 20)) .. "."
         .. t.digits(t.rng:int(1, how == 3 and 300 or 9))
   end
end

local function address(t)
   if t.rng:chance(40) then
      return ("%s::%s/%d"):format(t.hex(4), t.hex(4), t.rng:int(0, 128))
   end
   return ("%d.%d.%d.%d/%d"):format(t.bits(8), t.bits(8), t.bits(8), t.bits(8), t.rng:int(0, 32))
end

-- An object of the catalog, or a number that is none.
local function object(t, kind)
   return ("%d::oid::%s"):format(t.rng:int(1, 16000), kind)
end

local function snapshot(t)
   local xmin = t.rng:int(3, 1 << 40)
   return ("%d:%d:%s"):format(xmin, xmin + 9, t.one { "", ("%d,%d"):format(xmin, xmin + 4) })
end

-- Types by name; what is false has values that nobody can write, so that its columns are NULL.
local function builtin(t, version)
   local rng = t.rng
   local function q(f)
      return quoted(t, f)
   end
   local types = {
      bool = function() return t.one { "true", "false" } end,
      int2 = q(function() return t.integer(16) end), int4 = q(function() return t.integer(32) end),
      int8 = q(function() return t.integer(64) end),
      float4 = q(function() return t.float("<f", 4) end),
      float8 = q(function() return t.float("<d", 8) end),
      numeric = q(numeric(t)), ["numeric(12,2)"] = q(function() return rng:float(-1e9, 1e9) end),
      money = q(function() return t.one { "", "-" } .. t.bits(50) .. "." .. t.digits(2) end),
      text = q(t.text), varchar = q(t.text), bpchar = q(t.text), refcursor = q(t.text),
      ["char(10)"] = q(function() return t.cut(2) end), name = q(function() return t.cut(9) end),
      ["varchar(20)"] = q(function() return t.cut(3) end),
      char = q(function() return t.one { "", "a", "\\", '"', "'", "\n", "\t", "\1", "\127" } end),
      bytea = function() return ("'\\x%s'"):format(t.hex(2 * rng:int(0, rng:int(1, 40)))) end,
      uuid = q(function() return t.hex(32) end),
      json = q(function() return document(t, 3) end),
      jsonb = q(function() return document(t, 3) end),
      jsonpath = q(function() return "$." .. json_string(t.text(6)) .. "[*] ? (@ > 1.50)" end),
      xml = q(function()
         return t.fit("<a b=\"c\">" .. t.one { "", "d &amp; é 🐘", "\n\t" } .. "</a>")
      end),
      date = function()
         return rng:chance(10) and t.one { "'infinity'", "'-infinity'", "'4714-11-24 BC'" }
            or ("date '2000-01-01' + %d"):format((moment(t)))
      end,
      time = q(function() return rng:chance(5) and "24:00" or clock(t) end),
      timetz = q(function()
         return clock(t) .. t.one { "+00", "-15:59:59", "+05:30", "+12:45" }
      end),
      timestamp = stamp(t, "timestamp"), timestamptz = stamp(t, "timestamptz"),
      ["timestamp(3)"] = stamp(t, "timestamp"),
      interval = q(function()
         return version >= 17 and rng:chance(5) and t.one { "infinity", "-infinity" }
            or ("%d mons %d days %d.%s s"):format(rng:int(-9999, 9999), rng:int(-99, 99),
               rng:int(-99999, 99999), t.digits(6))
      end),
      inet = q(function() return address(t) end),
      cidr = function() return ("network('%s'::inet)"):format(address(t)) end,
      macaddr = q(function() return t.hex(12) end), macaddr8 = q(function() return t.hex(16) end),
      bit = function() return ("B'%d'"):format(t.bits(1)) end,
      ["bit(5)"] = function() return ("%d::bit(5)"):format(t.bits(5)) end,
      varbit = function() return ("%d::bit(40)::varbit(%d)"):format(t.bits(31), rng:int(1, 40)) end,
      point = q(function() return rng:chance(5) and "(NaN,-Infinity)" or point(t) end),
      lseg = q(function() return ("[%s,%s]"):format(point(t), point(t)) end),
      box = q(function() return point(t) .. "," .. point(t) end),
      line = q(function() return ("{1,%s,%s}"):format(t.modest(), t.modest()) end),
      path = q(points(t, "[", "]")), polygon = q(points(t, "(", ")")),
      circle = q(function() return ("<%s,%d>"):format(point(t), t.bits(9)) end),
      oid = q(function() return t.bits(32) end), xid = q(function() return t.bits(32) end),
      cid = q(function() return t.bits(32) end), xid8 = q(function() return t.bits(63) end),
      tid = q(function() return ("(%d,%d)"):format(t.bits(32), t.bits(16)) end),
      pg_lsn = q(function() return t.hex(8) .. "/" .. t.hex(8) end),
      oidvector = q(function() return ("%d %d"):format(t.bits(32), t.bits(9)) end),
      int2vector = q(function() return t.one { "", "1", "1 -2 3" } end),
      tsvector = function() return ("to_tsvector('simple', %s)"):format(t.escape(t.text())) end,
      tsquery = function()
         return ("plainto_tsquery('simple', %s)"):format(t.escape("x " .. t.text(9)))
      end,
      aclitem = q(function() return t.one { "=r/postgres", "postgres=arw*/postgres" } end),
      pg_snapshot = q(function() return snapshot(t) end),
      txid_snapshot = q(function() return snapshot(t) end),
      pg_node_tree = function()
         return ("(select proargdefaults from pg_proc where oid = '%s'::regprocedure)"):format(
            t.one { "json_populate_record(anyelement,json,boolean)",
               "pg_terminate_backend(int,int8)" })
      end,
   }
   for _, kind in ipairs { "regproc", "regprocedure", "regoper", "regoperator", "regclass",
      "regtype", "regrole", "regnamespace", "regconfig", "regdictionary", "regcollation" } do
      types[kind] = function() return object(t, kind) end
   end
   for _, name in ipairs { "gtsvector", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
      "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary" } do
      types[name] = false
   end
   return types
end

-- ---- types of types ----

local function ranges(make)
   local pairs_of = {
      int4range = "int4", int8range = "int8", numrange = "numeric", daterange = "date",
      tsrange = "timestamp", tstzrange = "timestamptz", textrange = "text",
   }
   local made = {}
   for name, of in pairs(pairs_of) do
      made[name] = function(t)
         local a, b = make[of](), make[of]()
         if t.rng:chance(20) then
            return ("%s(null, %s, '()')"):format(name, a)
         end
         return ("%s(least((%s)::%s, %s), greatest((%s)::%s, %s))"):format(name, a, of, b, a, of, b)
      end
   end
   return made
end

-- What stands in a place that may be NULL.
local function some(t, kind)
   return t.rng:chance(15) and "null::" .. kind.name or ("(%s)::%s"):format(kind.make(), kind.name)
end

local function array_of(t, kind)
   local function list(n, f)
      local parts = {}
      for i = 1, n do
         parts[i] = f()
      end
      return "array[" .. table.concat(parts, ",") .. "]"
   end
   local function item()
      return some(t, kind)
   end
   return {
      name = kind.name .. "[]",
      make = function()
         local how = t.rng:int(1, 10)
         if how == 1 then
            return "'{}'"
         elseif how < 4 then
            local n = t.rng:int(1, 3)
            return list(t.rng:int(1, 3), function() return list(n, item) end)
         end
         return list(t.rng:int(1, 5), item)
      end,
      one_way = kind.one_way or kind.is_nested or kind.has_cast,
      has_digits = kind.has_digits or kind.is_digits, has_bytes = kind.has_bytes or kind.is_bytes,
      has_documents = kind.has_documents or kind.is_document,
      is_vague = kind.is_vague, is_list_of_bytes = kind.is_bytes,
   }
end

local function composite_of(t, name, fields)
   local made = {
      name = name, is_nested = false,
      make = function()
         local parts = {}
         for i, field in ipairs(fields) do
            parts[i] = some(t, field)
         end
         return "row(" .. table.concat(parts, ",") .. ")"
      end,
   }
   local columns = {}
   for i, field in ipairs(fields) do
      columns[i] = ('"f ""%d\\" %s'):format(i, field.name)
      made.one_way = made.one_way or field.one_way or field.has_cast
      made.is_vague = made.is_vague or field.is_vague
      made.has_digits = made.has_digits or field.has_digits or field.is_digits
      made.has_bytes = made.has_bytes or field.has_bytes or field.is_bytes
      made.has_documents = made.has_documents or field.has_documents or field.is_document
   end
   return made, ("create type %s as (%s)"):format(name, table.concat(columns, ", "))
end

local labels = { "ok", "", 'so "so"', "back\\slash", "new\nline", "tab\t", "é🐘", "NULL", "{a,b}",
                 "(c)", "it's", ("x"):rep(60) }

-- The types of a server of that version: a list; and the statements that make those that are not
-- there. escape(text) gives a literal; `encoding`: the database's, UTF8 if it is nil.
function random_types.new(rng, version, escape, has_hstore, encoding)
   local t = tools(rng, escape, encoding)
   local make = builtin(t, version)
   local names, list, plain, sql = {}, {}, {}, {}
   for name in pairs(make) do
      names[#names + 1] = name
   end
   table.sort(names)
   local function add(kind)
      list[#list + 1] = kind
      return kind
   end
   for _, name in ipairs(names) do
      local quoted_name = name == "char" and '"char"' or name
      plain[#plain + 1] = add {
         name = quoted_name, make = make[name] or function() return "null" end,
         -- as JSON a vector is a list already, and the name of a function may be that of several
         is_nested = name:find "vector$" ~= nil and name ~= "tsvector" or name:find "^json" ~= nil,
         has_cast = name == "int2vector" or name == "oidvector" or name:find "^jsonb?$" ~= nil,
         is_digits = name == "numeric", is_bytes = name == "bytea",
         is_document = name:find "^jsonb?$" ~= nil,
         is_vague = name == "pg_node_tree" or name == "regproc" or name == "regoper"
            or name == "regcollation" and encoding ~= nil, -- many are of one encoding only
         has_no_array = name ~= "gtsvector" and not make[name] or name == "pg_node_tree",
      }
   end
   local function statement(text)
      sql[#sql + 1] = text
   end
   statement "create type textrange as range (subtype = text, collation = \"C\")"
   local of_range = ranges(make)
   names = {}
   for name in pairs(of_range) do
      names[#names + 1] = name
   end
   table.sort(names)
   for _, name in ipairs(names) do
      local range = add { name = name, make = function() return of_range[name](t) end }
      plain[#plain + 1] = range
      plain[#plain + 1] = add {
         name = name == "tstzrange" and "tstzmultirange" or name:gsub("range$", "multirange"),
         make = function()
            local parts = {}
            for i = 1, rng:int(0, 3) do
               parts[i] = range.make()
            end
            return name:gsub("range$", "multirange") .. "(" .. table.concat(parts, ",") .. ")"
         end,
      }
   end
   local literals = {}
   for i, label in ipairs(labels) do
      literals[i] = escape(t.fit(label))
   end
   statement(("create type odd as enum (%s)"):format(table.concat(literals, ", ")))
   plain[#plain + 1] = add { name = "odd", make = function() return t.one(literals) end }
   if has_hstore then
      -- inside others its JSON is an object, which nothing makes hstore of again
      add {
         name = "hstore", has_cast = true,
         make = function()
            local keys, items = {}, {}
            for i = 1, rng:int(0, 4) do
               keys[i] = escape(i .. t.text(5)) -- no key is there twice
               items[i] = rng:chance(20) and "null" or escape(t.text(5))
            end
            return #keys == 0 and "''" or ("hstore(array[%s], array[%s]::text[])"):format(
               table.concat(keys, ","), table.concat(items, ","))
         end,
      }
   end
   local n_scalars = #list
   local function domain(name, over)
      statement(("create domain %s as %s"):format(name, over.name))
      local made = {}
      for key, value in pairs(over) do
         made[key] = value
      end
      made.name = name
      return made
   end
   for i = 1, n_scalars do -- a domain over each, and of each an array
      local kind = list[i]
      local same = add(domain("d" .. i, kind))
      if not kind.has_no_array then
         local array = add(array_of(t, kind))
         if i % 7 == 0 then
            add(domain("da" .. i, array))
            add(array_of(t, same))
         end
      end
   end
   for i = 1, 8 do
      local fields = {}
      for k = 1, rng:int(1, 5) do
         fields[k] = t.one(i <= 4 and plain or list)
      end
      local kind, create = composite_of(t, "pair" .. i, fields)
      statement(create)
      add(kind)
      add(array_of(t, kind))
      add(domain("dp" .. i, kind))
   end
   return list, sql
end

return random_types
