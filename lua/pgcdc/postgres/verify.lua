-- pgcdc.postgres.verify: whether a table and its mirror are the same, and which rows differ.
-- SPDX-License-Identifier: MIT
--
--    source                                    target
--    16384 buckets of row hashes:              the same:
--    bucket 0   3 rows, xor 5d1c...            bucket 0   3 rows, xor 5d1c...
--    bucket 1   2 rows, xor 77ab...            bucket 1   2 rows, xor 0e42...     differs
--    keys and hashes of the rows in bucket 1   the same:
--    id=7  a91f...                             id=7  33d0...                      a suspect
--
-- Each side counts its rows in buckets of their hashes, in one scan, and gives the xor of each
-- bucket: little travels, whatever the size of the table. Keys and hashes are fetched only of
-- buckets that differ, some at a time, so that memory is bounded, too. All of it is read in one
-- snapshot for each side, both taken at the same time, and both servers work at the same time.
--
-- The mirror of a table that is being written is always a little late. So suspects are looked at
-- again, by key, a few times. One counts as different if its row in the target never changed in the
-- meantime, and is like no version of the row in the source that was seen. If the row in the target
-- changed, the change is on its way: that is reported, but is no difference.
--
-- A side is {db =, table = the name that was asked for, title =, letter = "a" for the source or
-- "b", name = as SQL writes it, rows = what SQL reads, spoken = for messages, kind =, oid =,
-- is_narrow = its encoding lacks characters, sql = statements of verify_sql}. A suspect is {k = the
-- key as text, parts = the key as a list, a =, b = hash of the row on either side, been = set of
-- the hashes that `a` has had, has_moved = the row in the target changed, columns = names of those
-- that differ, or false}.

local raw = require "pgcdc.raw"
local check = require "pgcdc.check"
local terminal = require "pgcdc.terminal"
local sql = require "pgcdc.postgres.verify_sql"
local quote = require("pgcdc.names").quote
local sorted = require("pgcdc.names").sorted

local verify = {}

local FETCH = 50000   -- how many rows are fetched at a time, on each side
local SUSPECTS = 5000 -- when so many rows differ, no more are looked for
local AT_ONCE = 1000  -- keys of one statement
local STAMP = "pgcdc_xid" -- the column that triggers use is no part of rows

local ABSENT = "" -- the hash of a row that is not there

-- Raises what ends the program with status 3.
local function refuse(message, ...)
   error({ refused = message:format(...) }, 0)
end

-- ---- the two sides ----

-- Calls a method of a side's connection, whose errors then say which side it is.
local function on(side, method, ...)
   local results = table.pack(pcall(side.db[method], side.db, ...))
   if not results[1] then
      local problem = results[2]
      if type(problem) == "string" then
         problem = problem:gsub("^.-:%d+: (db:%l+: )", "%1"):gsub("^db:%l+: ", "")
         refuse("%s: %s", side.title, problem)
      end
      error(problem, 0)
   end
   return table.unpack(results, 2, results.n)
end

-- The function `run` for questions (see answer) that are asked of this side.
local function by(side)
   return function(...)
      return (on(side, "query", ...))
   end
end

-- The values of pg_class.relkind that have rows to compare.
local comparable = { r = true, p = true, v = true, m = true, f = true }

-- Finds the table of a side and fills in what is known of it.
local function find(side)
   local facts = sql.FIND:maybe(by(side), side.table)
   if not facts then
      refuse("there is no table %s in the %s", side.table, side.title)
   elseif not comparable[facts.kind] then
      refuse("%s in the %s is no table", side.table, side.title)
   end
   side.name = quote(facts.schema) .. "." .. quote(facts.name)
   side.rows = side.name
   side.spoken = facts.schema .. "." .. facts.name
   side.kind, side.oid = facts.kind, facts.oid
   side.is_narrow = facts.encoding ~= "UTF8" and facts.encoding ~= "SQL_ASCII"
end

-- The first statements of a side's transaction, before its snapshot is taken.
local function begin(side)
   on(side, "exec", sql.settings(side.db.raw:version()))
   if side.kind == "r" or side.kind == "p" then
      on(side, "exec", ("LOCK TABLE %s IN ACCESS SHARE MODE"):format(side.name))
   end
end

-- Asks each side a question, both at once. Returns the rows of both.
local function ask_both(a, b, question_a, question_b, ...)
   on(a, "send", question_a.sql, ...)
   on(b, "send", question_b.sql, ...)
   local rows = question_a:check(on(a, "result"))
   return rows, question_b:check(on(b, "result"))
end

-- Returns f(), called while a snapshot is open on both sides. Locks are taken before the snapshots,
-- since they may have to be waited for.
local function with_snapshots(a, b, f)
   if not raw.sleep(0) then
      refuse "stopped before there was an answer"
   end
   return on(a, "transaction", function()
      begin(a)
      return on(b, "transaction", function()
         begin(b)
         ask_both(a, b, sql.SNAPSHOT, sql.SNAPSHOT)
         return f()
      end)
   end)
end

-- ---- columns ----

local function by_name(columns)
   local names = {}
   for _, column in ipairs(columns) do
      names[column.name] = column
   end
   return names
end

local function primary_key(columns)
   local key = {}
   for _, column in ipairs(columns) do
      if column.key then
         key[column.key] = column.name
      end
   end
   return key
end

-- From now on the target has the names of the source for its columns, of which this is the list.
-- `rename`: a table from the former to its own. One that has the name of a renamed column and is no
-- copy itself is left out. Returns them by name.
local function take_names_of_source(b, columns, rename)
   local source_name, there, parts = {}, {}, {}
   for from, to in pairs(rename) do
      source_name[to] = from
   end
   for _, column in ipairs(columns) do
      local own = column.name
      local name = source_name[own] or not rename[own] and own
      if name then
         column.name, there[name] = name, column
         parts[#parts + 1] = ("%s AS %s"):format(quote(own), quote(name))
      end
   end
   if next(rename) then
      b.rows = ("(SELECT %s FROM %s)"):format(table.concat(parts, ", "), b.name)
   end
   return there
end

-- Returns the columns that are compared, those of the key, and the names that the target lacks.
local function choose_columns(job, a, b)
   local all = sql.COLUMNS:rows(by(a), a.oid)
   local there_a = by_name(all)
   local there_b = take_names_of_source(b, sql.COLUMNS:rows(by(b), b.oid), job.rename)
   local wanted, key_names = job.columns or {}, job.pk or primary_key(all)
   if not job.columns then
      for _, column in ipairs(all) do
         wanted[#wanted + 1] = column.name ~= STAMP and column.name or nil
      end
   end
   if #key_names == 0 then
      refuse("%s has no primary key: name the columns that identify a row, as pk=", a.spoken)
   end
   for _, name in ipairs(sorted(job.rename)) do
      if not there_a[name] then
         refuse("rename: %s has no column '%s'%s", a.spoken, name,
            check.nearest(name, sorted(there_a)))
      end
   end
   local columns, key, missing, is_chosen = {}, {}, {}, {}
   local function add(list, name, must)
      if not there_a[name] then
         refuse("%s has no column '%s'", a.spoken, name)
      elseif there_b[name] then
         list[#list + 1] = sql.pair(there_a[name], there_b[name])
      elseif must then
         refuse("%s in the target has no column '%s', which is in the key", b.spoken,
            job.rename[name] or name)
      else
         missing[#missing + 1] = job.rename[name] or name
      end
   end
   for _, name in ipairs(key_names) do
      if not is_chosen[name] then
         add(key, name, true)
         add(columns, name, true)
         is_chosen[name] = true
      end
   end
   for _, name in ipairs(wanted) do
      if not is_chosen[name] then
         add(columns, name)
         is_chosen[name] = true
      end
   end
   return columns, key, missing
end

-- ---- buckets ----

-- Returns the buckets of a list by number, and how many rows they have.
local function by_number(list)
   local buckets, rows = {}, 0
   for _, row in ipairs(list) do
      buckets[row.bucket] = row
      rows = rows + row.n
   end
   return buckets, rows
end

-- The buckets that differ, and how many rows each has, on the side that has more.
local function differing_buckets(a, b)
   local differing = {}
   for bucket = 0, sql.BUCKETS - 1 do
      local x, y = a[bucket], b[bucket]
      if x and not y or y and not x or x and (x.n ~= y.n or x.x ~= y.x) then
         local n = math.max(x and x.n or 0, y and y.n or 0)
         differing[#differing + 1] = { number = bucket, n = n }
      end
   end
   return differing
end

-- Removes from the end of the list as many buckets as may be fetched at once, at least one. Returns
-- their numbers.
local function take_buckets(differing)
   local numbers, rows = {}, 0
   while #differing > 0 and (#numbers == 0 or rows + differing[#differing].n <= FETCH) do
      local bucket = table.remove(differing)
      numbers[#numbers + 1] = bucket.number
      rows = rows + bucket.n
   end
   return numbers
end

-- Adds the hash of a row to `hashes`, a table by key. Those of several rows with one key are
-- combined.
local function add_hash(hashes, row)
   local before = hashes[row.k]
   if not before then
      hashes[row.k] = row.h
   else
      hashes[row.k] = before < row.h and before .. "+" .. row.h or row.h .. "+" .. before
   end
end

-- The parts of the key, as a list; raw.null for NULL.
local function key_parts(row, n)
   local parts = {}
   for i = 1, n do
      local part = row["k" .. i]
      parts[i] = part == nil and raw.null or part
   end
   return parts
end

-- Fetches the rows of these buckets. Adds those that differ to `suspects`, a table by key: the two
-- versions of a row are seldom in the same bucket. Returns how many were added.
local function compare_rows(job, a, b, numbers, suspects)
   local hashes, rows = { a = {}, b = {} }, {}
   local rows_a, rows_b = ask_both(a, b, a.sql.rows, b.sql.rows, numbers)
   for letter, list in pairs { a = rows_a, b = rows_b } do
      for _, row in ipairs(list) do
         add_hash(hashes[letter], row)
         rows[row.k] = row
      end
   end
   local n = 0
   for k, row in pairs(rows) do
      local x, y = hashes.a[k], hashes.b[k]
      if x ~= y then
         local s = suspects[k]
         if not s then
            s = { k = k, parts = key_parts(row, #job.key), a = ABSENT, b = ABSENT }
            suspects[k] = s
            n = n + 1
         end
         s.a, s.b = x or s.a, y or s.b
      end
   end
   return n
end

-- ---- rows by key ----

-- Fetches the rows of these suspects from both sides: by `named`, whose parameters are the keys as
-- arrays; or by `scanned`, if the encoding of a database may lack characters of a key.
local function fetch_named(job, a, b, suspects)
   local arrays, n, is_wide = {}, #job.key, false
   for i = 1, n + 1 do
      arrays[i] = {}
      for j, s in ipairs(suspects) do
         arrays[i][j] = i <= n and s.parts[i] or s.k
         is_wide = is_wide or s.k:find "[\x80-\xff]" ~= nil
      end
   end
   for _, side in ipairs { a, b } do
      if is_wide and side.is_narrow then
         on(side, "send", side.sql.scanned.sql, arrays[n + 1])
      else
         on(side, "send", side.sql.named.sql, table.unpack(arrays))
      end
   end
   local rows = a.sql.named:check(on(a, "result"))
   return rows, b.sql.named:check(on(b, "result"))
end

-- Returns two tables by key: the hashes of rows, and those of their columns as text.
local function by_key(rows)
   local hashes, columns = {}, {}
   for _, row in ipairs(rows) do
      add_hash(hashes, row)
      columns[row.k] = row.c
   end
   return hashes, columns
end

local function split(text)
   local parts = {}
   for part in text:gmatch "[^,]+" do
      parts[#parts + 1] = part
   end
   return parts
end

-- The names of the columns whose hashes, in the texts x and y, differ.
local function differing_columns(job, x, y)
   local names, a, b = {}, split(x), split(y)
   for i, pair in ipairs(job.pairs) do
      if a[i] ~= b[i] then
         names[#names + 1] = pair.name
      end
   end
   return names
end

-- Looks at the suspects again, while snapshots are open: calls f(suspect, hash of the row in a, in
-- b, hashes of its columns in a, in b) for each.
local function each_again(job, a, b, suspects, f)
   for from = 1, #suspects, AT_ONCE do
      local to = math.min(from + AT_ONCE - 1, #suspects)
      local rows_a, rows_b = fetch_named(job, a, b, table.move(suspects, from, to, 1, {}))
      local hashes_a, columns_a = by_key(rows_a)
      local hashes_b, columns_b = by_key(rows_b)
      for i = from, to do
         local s = suspects[i]
         f(s, hashes_a[s.k] or ABSENT, hashes_b[s.k] or ABSENT, columns_a[s.k], columns_b[s.k])
      end
   end
end

-- Finds out in which columns the suspects differ.
local function describe(job, a, b, suspects)
   each_again(job, a, b, suspects, function(s, x, y, columns_x, columns_y)
      s.a, s.b = x, y
      s.columns = x ~= ABSENT and y ~= ABSENT and differing_columns(job, columns_x, columns_y)
   end)
end

-- Looks at the suspects once more. Returns those that still differ, and sets `has_moved` of those
-- whose row in the target changed.
local function settle_once(job, a, b, suspects)
   local left = {}
   each_again(job, a, b, suspects, function(s, x, y, columns_x, columns_y)
      s.been[x] = true
      s.has_moved = s.has_moved or y ~= s.b or s.been[y] ~= nil
      s.is_same = x == y
      s.a, s.b = x, y
      s.columns = x ~= ABSENT and y ~= ABSENT and differing_columns(job, columns_x, columns_y)
      if not s.is_same then
         left[#left + 1] = s
      end
   end)
   return left
end

-- Gives changes that are on their way the time to arrive. Returns the rows that differ, and how
-- many rows are still on their way.
local function settle(job, a, b, suspects)
   for _ = 1, job.settle do
      if #suspects == 0 then
         break
      end
      if not raw.sleep(job.wait) then
         refuse "stopped before there was an answer"
      end
      with_snapshots(a, b, function()
         suspects = settle_once(job, a, b, suspects)
      end)
   end
   local wrong, moving = {}, 0
   for _, s in ipairs(suspects) do
      if s.has_moved then
         moving = moving + 1
      else
         wrong[#wrong + 1] = s
      end
   end
   return wrong, moving
end

-- ---- the comparison ----

local integers = { int2 = true, int4 = true, int8 = true }

-- Sorts by key: integers as numbers, all else as text.
local function sort(list, key)
   table.sort(list, function(x, y)
      for i, pair in ipairs(key) do
         local p, q = x.parts[i], y.parts[i]
         if p ~= q then
            local m, n = math.tointeger(tonumber(p)), math.tointeger(tonumber(q))
            if integers[pair.a_column.type] and m and n and m ~= n then
               return m < n
            end
            return tostring(p) < tostring(q)
         end
      end
      return false
   end)
   return list
end

-- Returns what differs in these buckets, sorted; and whether there is more. Snapshots are open.
local function find_suspects(job, a, b, differing)
   local found, list, n, most = {}, {}, 0, math.max(SUSPECTS, job.limit)
   while #differing > 0 and n <= most do
      n = n + compare_rows(job, a, b, take_buckets(differing), found)
   end
   for _, s in pairs(found) do
      list[#list + 1] = s
   end
   local is_cut = #differing > 0 or n > most
   sort(list, job.key)
   list = table.move(list, 1, math.min(n, most), 1, {})
   if is_cut then -- the other half of a row may be in a bucket that was not read
      describe(job, a, b, list)
   elseif job.settle == 0 then
      describe(job, a, b, table.move(list, 1, math.min(n, job.limit), 1, {}))
   end
   for _, s in ipairs(list) do
      s.been = { [s.a] = true }
   end
   return list, is_cut
end

-- One comparison of both sides. Returns a sorted list of what differs, and whether there is more;
-- fills in result.rows, result.target_rows and result.missing.
local function compare(job, a, b, result)
   return with_snapshots(a, b, function()
      local columns, key, missing = choose_columns(job, a, b)
      job.pairs, job.key, result.missing = columns, key, missing
      a.sql = sql.statements(a, columns, key, job.where)
      b.sql = sql.statements(b, columns, key, job.where)
      local buckets_a, buckets_b = ask_both(a, b, a.sql.buckets, b.sql.buckets)
      buckets_a, result.rows = by_number(buckets_a)
      buckets_b, result.target_rows = by_number(buckets_b)
      return find_suspects(job, a, b, differing_buckets(buckets_a, buckets_b))
   end)
end

--- Compares the table `spec.table` of `spec.source` with `spec.target_table` of `spec.target`;
--- source and target are connections as pgcdc.connect makes them. Further fields: `pk`, `columns`:
--- lists of names, or nil; `rename`: {name in the source = its name in the target}, or nil;
--- `where`: SQL with the names of the source, or nil; `settle`: how often rows that differ are
--- looked at again, `wait`: the seconds before each time; `limit`: how many rows are described.
--- Returns a table: `name`; `rows`, `target_rows`: how many there are; `missing`: columns that the
--- target lacks; `wrong`: a list of rows that differ; `is_cut`: there may be more; `moving`: how
--- many are on their way; `key`: what sql.pair returned for its columns. Raises {refused =
--- message}.
function verify.compare(spec)
   local job = { columns = spec.columns, pk = spec.pk, where = spec.where, limit = spec.limit,
                 settle = spec.settle, wait = spec.wait, rename = spec.rename or {} }
   local a = { db = spec.source, table = spec.table, title = "source", letter = "a" }
   local b = { db = spec.target, table = spec.target_table, title = "target", letter = "b" }
   local result = {}
   find(a)
   find(b)
   result.name = a.spoken
   for _ = 0, job.settle do
      local suspects, is_cut = compare(job, a, b, result)
      result.wrong, result.moving, result.is_cut = suspects, 0, is_cut
      if job.settle > 0 then
         result.wrong, result.moving = settle(job, a, b, suspects)
      end
      if #result.wrong > 0 or not is_cut then
         break
      end
   end
   if #result.wrong == 0 and result.is_cut then
      refuse("%s: so many rows are on their way that there is no telling: try settle=%d", a.spoken,
         2 * job.settle)
   end
   result.key = job.key
   return result
end

-- ---- the report ----

-- A key for people: id=7 name="a b"
local function key_text(key, parts)
   local texts = {}
   for i, pair in ipairs(key) do
      texts[i] = ("%s=%s"):format(pair.name, parts[i] == raw.null and "NULL"
         or parts[i]:find "^[%w_.:+-]+$" and parts[i] or raw.encode(parts[i]))
   end
   return table.concat(texts, " ")
end

-- What is wrong with a row, as text, and the field of `counts` that counts it.
local function what_is_wrong(row)
   if row.b == ABSENT then
      return "is missing in the target", "missing"
   elseif row.a == ABSENT then
      return "is only in the target", "extra"
   elseif row.columns and #row.columns > 0 then
      return "differs in " .. table.concat(row.columns, ", "), "changed"
   end
   return "is not there as often as in the source", "changed"
end

local function summary(result, counts)
   local parts = { ("%d rows"):format(result.rows) }
   if result.rows ~= result.target_rows then
      parts[1] = ("%d rows, %d in the target"):format(result.rows, result.target_rows)
   end
   if #result.wrong > 0 then
      parts[2] = ("%s%d differ (%d missing, %d only in the target, %d with other values)"):format(
         result.is_cut and "at least " or "", #result.wrong, counts.missing, counts.extra,
         counts.changed)
   else
      parts[2] = #result.missing > 0 and "otherwise equal" or "equal"
   end
   if result.moving > 0 then
      parts[3] = ("%d on their way"):format(result.moving)
   end
   return table.concat(parts, ", ")
end

--- Reports a result, line by line, to `say`: at most `limit` rows, and a summary. Returns true if
--- both sides are the same.
function verify.report(result, limit, say)
   local counts = { missing = 0, extra = 0, changed = 0 }
   local function tell(text, ...)
      say(terminal.text(("%s: " .. text):format(result.name, ...))) -- names may hold anything
   end
   for _, name in ipairs(result.missing) do
      tell("the target has no column %s", name)
   end
   for i, row in ipairs(result.wrong) do
      local text, kind = what_is_wrong(row)
      counts[kind] = counts[kind] + 1
      if i <= limit then
         tell("%s %s", key_text(result.key, row.parts), text)
      end
   end
   if #result.wrong > limit then
      tell("and %s%d more", result.is_cut and "at least " or "", #result.wrong - limit)
   end
   tell("%s", summary(result, counts))
   return #result.wrong == 0 and #result.missing == 0
end

--- Compares, and reports to `say`. Returns true if both sides are the same. Ends the program with
--- status 3 if they cannot be compared. `spec`: as `verify.compare` has it.
function verify.run(spec, say)
   local ok, result = pcall(verify.compare, spec)
   if not ok and not raw.sleep(0) then
      raw.refuse "stopped before there was an answer"
   elseif not ok then
      raw.refuse(type(result) == "table" and result.refused or tostring(result))
   end
   return verify.report(result, spec.limit, say)
end

return verify
