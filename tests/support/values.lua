-- values.lua: a table with a column of every type, and odd values for each.
-- SPDX-License-Identifier: MIT

local crew = require "exact_crew"
local lu = require "luaunit"

local values = {}

local odd_strings = {
   "", " ", "plain", "tab\there", "line\nbreak\r\n", "back\\slash \\n \\N \\. \\\\", "\\N", "\\.",
   [['single' "double" `back`]], "\1\2\3\4\5\6\7\8\11\12\14\15\16\27\30\31\127", "</script>&amp;",
   "é ß \u{80} \u{7FF} \u{800} \u{2028}\u{2029} \u{FEFF} \u{FFFD} \u{FFFF}",
   "🐘 \u{10000} \u{10FFFF}",
   "{}", "[1,2]", "null", "true", "a,b", "(a,b)", '{"a":"b"}', "%s %d \\u0000", ("x"):rep(10000),
   ("é\\\"\n"):rep(3000), "12345678", "1234567\\", "1234567\n12345678\t1234567é",
}

local function numbers(list)
   local all = { "0", "-1", "1" }
   return table.move(list, 1, #list, 4, all)
end

-- {type, list of literals (text without quotes)}; the column is named after its place.
local function types()
   return {
      { "bool", { "true", "false" } },
      { "int2", numbers { "32767", "-32768" } },
      { "int4", numbers { "2147483647", "-2147483648" } },
      { "int8", numbers { "9223372036854775807", "-9223372036854775808", "9007199254740993" } },
      { "float4", numbers { "NaN", "Infinity", "-Infinity", "-0", "1.17549e-38", "3.4028235e38",
         "0.1", "1e20", "123456.789", "16777217" } },
      { "float8",
         numbers { "NaN", "Infinity", "-Infinity", "-0", "2.2250738585072014e-308", "5e-324",
         "1.7976931348623157e308", "0.1", "1e15", "1e16", "-1e-5", "100000",
         "3.141592653589793" } },
      { "numeric", numbers { "NaN", "Infinity", "-Infinity", "-0.0", "1.50", "1e1000", "1e-1000",
         ("9"):rep(900) .. "." .. ("9"):rep(900), "123456789012345678901234567890.10" } },
      { "numeric(12,2)", numbers { "0.10", "-9999999999.99", "NaN" } },
      { "text", odd_strings }, { "varchar", odd_strings }, { "bpchar", odd_strings },
      { "char(10)", { "", "abc", "abc       ", "\\\"\n\t", "éééé" } },
      { "varchar(20)", { "", "abc  ", "🐘🐘" } },
      { "name", { "", "a name", "with \"quotes\" and \\", "é" } },
      { '"char"', { "", "a", "\\", "\"", "\n", "\1" } },
      { "uuid",
         { "00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" } },
      { "oid", { "0", "16384", "4294967295" } }, { "xid", { "0", "4294967295" } },
      { "cid", { "7" } },
      { "xid8", { "3", "18446744073709551615" } }, { "tid", { "(0,1)", "(4294967295,65535)" } },
      { "pg_lsn", { "0/0", "FFFFFFFF/FFFFFFFF" } },
      { "regclass", { "pg_class", "pg_catalog.pg_type" } },
      { "regtype", { "int4", "text[]" } }, { "regproc", { "now" } }, { "regrole", { "postgres" } },
      { "inet", { "192.168.0.1", "10.0.0.0/8", "::1", "2001:db8::/32" } },
      { "cidr", { "10.0.0.0/8" } },
      { "macaddr", { "08:00:2b:01:02:03" } }, { "macaddr8", { "08:00:2b:01:02:03:04:05" } },
      { "money", { "0", "-12345.67", "92233720368547758.07" } },
      { "bit(5)", { "10101" } }, { "varbit", { "", "1", "0101010101" } },
      { "bytea", { "", "\\x", "\\x00", "\\xdeadbeef5c0a0d0900ff", "\\x" .. ("ab"):rep(3000) } },
      { "xml", { "<a b=\"c\">d &amp; é</a>", "text", "<a>\n\t</a>" } },
      { "tsvector", { "", "a:1 fat:2,4 'it''s':3A" } }, { "tsquery", { "a & !b | 'c d':*" } },
      { "int2vector", { "", "1 2 -3" } }, { "oidvector", { "", "1 4294967295" } },
      { "date", { "2026-11-23", "0044-03-15 BC", "infinity", "-infinity", "5874897-12-31",
         "4714-11-24 BC" } },
      { "time", { "00:00:00", "23:59:59.999999", "24:00:00", "12:34:56.7" } },
      { "time(0)", { "12:00" } },
      { "timetz",
         { "00:00:00+00", "23:59:59.999999-15:59:59", "12:00:00+05:30", "12:00+05:30:15" } },
      { "timestamp", { "2026-11-23 00:50:57.7219", "2026-11-23", "0044-03-15 12:00:00.5 BC",
         "infinity", "-infinity", "294276-12-31 23:59:59.999999", "4714-11-24 BC",
         "2000-01-01 00:00:00.000001" } },
      { "timestamp(3)", { "2026-11-23 00:50:57.7219" } },
      { "timestamptz", { "2026-11-23 00:50:57.7219+01", "2026-11-23 00:00+00", "infinity",
         "-infinity",
         "0044-03-15 12:00:00.5+00 BC", "294276-12-31 23:59:59.999999+00",
         "1890-01-01 00:00:00.1-00:00:44", "0001-01-01 00:30:00+01" } },
      { "interval", { "0", "1 year 2 mons -3 days 04:05:06.789", "-1 day", "178000000 years",
         "-0.5 s",
         "1 mon -1 day +00:00:00.000001" } },
      { "interval second(1)", { "1.25" } },
      { "point", { "(1,-2.5)", "(NaN,Infinity)" } }, { "line", { "{1,2,3}" } },
      { "lseg", { "[(0,0),(1,1)]" } },
      { "box", { "(1,1),(0,0)" } }, { "path", { "[(0,0),(1,1)]", "((0,0),(1,1))" } },
      { "polygon", { "((0,0),(1,1),(1,0))" } }, { "circle", { "<(0,0),2>" } },
      { "int4range", { "empty", "[1,5)", "(,3]", "(,)" } },
      { "int8range", { "[1,9223372036854775807)" } },
      { "numrange", { "[1.50,2.50]", "(,Infinity]" } },
      { "daterange", { "[2026-01-01,infinity)" } },
      { "tsrange", { "[2026-01-01 00:00:00.5,)" } }, { "tstzrange", { "[2026-01-01 00:00+02,)" } },
      { "int4multirange", { "{}", "{[1,2),[5,7)}" } },
      { "tstzmultirange", { "{[2026-01-01 00:00+02,)}" } },
      { "jsonpath", { "$.a[*] ? (@ > 1)", "$.\"q\\\"\"" } }, { "pg_snapshot", { "10:20:10,14" } },
      { "txid_snapshot", { "10:20:10" } }, { "refcursor", { "a \"b\"" } },
      { "aclitem", { "postgres=r/postgres" } },
      { "json", { "null", "{}", "[]", "\"\\\"é\\n\"",
         " { \"b\" : 1.50 ,\n\t\"a\":[1,2.0e3,null] }\r\n",
         "12345678901234567890.123", "{\"a\":1,\"a\":2}", "\"\\ud83d\\udc18\"" } },
      { "jsonb",
         { "null", "{\"b\":1.50,\"a\":[1,2.0e3,null]}", "\"\\\"é\\n\\\\\"", "[]", "true" } },
      { "int4[]", { "{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:2]={1,2,3}", "{{{1}}}" } },
      { "text[]",
         { "{}", '{"",NULL,"NULL","a\\"b\\\\c","{}",é,"x\ny"}', '{{a,b},{"c,d","e\tf"}}' } },
      { "numeric[]", { "{1.50,NaN,1e100}" } }, { "float8[]", { "{NaN,Infinity,0.1}" } },
      { "bool[]", { "{t,f,NULL}" } }, { "bytea[]", { '{"\\\\x00ff",NULL}' } },
      { "timestamptz[]", { "{2026-01-01 00:00+02,infinity}" } },
      { "date[]", { "{infinity,0044-03-15 BC}" } },
      { "json[]", { '{"{\\"a\\": [1]}",null,NULL}' } },
      { "jsonb[]", { '{"{\\"a\\": 1e5}","\\"x\\""}' } },
      { "int2vector[]", { '{"1 2","3"}' } }, { "name[]", { "{a,b}" } }, { "uuid[]", { "{}" } },
      { "int4range[]", { '{"[1,5)",empty}' } }, { "interval[]", { '{"1 day"}' } },
      -- made by values.create
      { "mood", { "ok", "so \"so\"", "back\\slash", "with\nnewline", "é" } },
      { "mood[]", { '{ok,"so \\"so\\"",NULL}' } },
      { "shout", { "loud", "quiet" } }, { "shout[]", { "{loud,NULL}" } },
      { "pair", { "(1,)", '(,"a ""quoted"" \\\\ text, with comma")', "(,)", '(5,"new\nline")' } },
      { "pair[]", { '{"(1,a)",NULL,"(,\\"x y\\")"}' } },
      { "nest", { '("(1,x)","{1,2}","[1,2,{}]","2026-01-01 00:00+02",1.50,t,"\\\\x00ff")',
         "(,,,,,,)" } },
      { "small", { "1", "99" } }, { "price", { "1.50", "NaN" } },
      { "labels", { "{a,NULL}", "{}" } },
      { "doc", { '{"a": 1}' } }, { "pair_domain", { "(1,a)" } }, { "small_of_small", { "5" } },
      { "stamp", { "2026-01-01 00:00:00.25+02" } }, { "blob", { "\\x00ff" } }, { "flag", { "t" } },
      { "small[]", { "{1,2}" } }, { "loudness", { "loud" } },
      { "textrange", { '["a b",c)', "empty" } },
      { "hstore", { "", 'a=>1, "b \\"c"=>NULL, "d\\\\e"=>"x\ny"' }, "hstore" },
      { "hstore[]", { '{"a=>1",NULL}' }, "hstore" }, { "tags", { "a=>b" }, "hstore" },
      { "citext", odd_strings, "citext" }, { "citext[]", { "{a,NULL}" }, "citext" },
      { "ltree", { "", "Top.Science" }, "ltree" }, { "cube", { "(1,2),(3,4)" }, "cube" },
   }
end

local extensions = { "hstore", "citext", "ltree", "cube" }

local definitions = [[
   create type mood as enum ('ok', 'so "so"', E'back\\slash', E'with\nnewline', 'é');
   create type shout as enum ('loud', 'quiet');
   create function shout_json(shout) returns json language sql immutable as
      $$ select json_build_object('shout', upper($1::text), 'note', E'two\nlines') $$;
   create cast (shout as json) with function shout_json(shout);
   create type pair as (a int, "b ""c" text);
   create type nest as (p pair, l int[], j json, t timestamptz, n numeric, f bool, raw bytea);
   create domain small as int check (value < 100);
   create domain small_of_small as small;
   create domain price as numeric(12,2);
   create domain labels as text[];
   create domain doc as jsonb;
   create domain pair_domain as pair;
   create domain stamp as timestamptz;
   create domain blob as bytea;
   create domain flag as bool not null default false;
   create domain loudness as shout;
   create type textrange as range (subtype = text)]]

local odd_names = { 'a"b\\c', "tab\there", "new\nline", "🐘", "row", "select", "UPPER case", "\1" }

-- Makes table "values" in a database with default settings of its own that nobody would want, and
-- fills it with <n> random rows. Returns the names of its columns in order.
function values.create(db, n, seed)
   local conn = db:connect()
   local rng = crew.random(seed)
   for _, name in ipairs(extensions) do
      conn:exec(([[do $$ begin
         if exists (select from pg_available_extensions where name = '%s') then
            create extension %s;
         end if; end $$]]):format(name, name))
   end
   local has = {}
   for _, row in ipairs(conn:exec "select extname from pg_extension") do
      has[row[1]] = true
   end
   conn:exec(definitions)
   if has.hstore then
      conn:exec "create domain tags as hstore"
   end
   local names, literals, columns = { "id" }, { {} }, { "id int primary key" }
   for i, item in ipairs(types()) do
      if not item[3] or has[item[3]] then
         names[#names + 1] = odd_names[i] or "c" .. i
         literals[#names] = item[2]
         columns[#columns + 1] = ("%s %s"):format(conn:ident(names[#names]), item[1])
      end
   end
   conn:exec(('create table "values" (%s)'):format(table.concat(columns, ", ")))
   for id = 1, n do
      local row = { tostring(id) }
      for i = 2, #names do
         local list = literals[i]
         -- first every value once, then any
         local literal = list[id] or rng:chance(80) and list[rng:int(1, #list)]
         row[i] = literal and conn:escape(literal) or "default"
      end
      conn:exec(('insert into "values" values (%s)'):format(table.concat(row, ", ")))
   end
   for _, setting in ipairs {
      "datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "extra_float_digits = -10",
      "bytea_output = 'escape'", "timezone = 'Asia/Kolkata'", "xmloption = 'document'",
      "standard_conforming_strings = off", "client_encoding = 'latin1'",
      "quote_all_identifiers = on",
   } do
      conn:exec(("alter database %s set %s"):format(conn:ident(db.name), setting))
   end
   conn:close()
   return names
end

-- Makes <conn> a session as section "values and JSON" of the manual means it.
function values.normal_session(conn)
   conn:exec [[
      set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres';
      set extra_float_digits = 1; set bytea_output = 'hex'; set client_encoding = 'UTF8';
      set standard_conforming_strings = on; set quote_all_identifiers = off]]
   return conn
end

-- Compares lines with row_to_json() of the rows that they are of, by the server, column by column.
function values.assert_like_row_to_json(conn, name, lines)
   local list = {}
   for i, line in ipairs(lines) do
      list[i] = "(" .. conn:escape(line) .. ")"
   end
   conn:exec("create temp table lines as select line::jsonb from (values "
      .. table.concat(list, ",") .. ") v(line)")
   local differences = conn:exec(([[
      select t.id, d.* from %s t join lines on (line->'key'->>'id')::int = t.id, lateral (
         select key, ours.value as ours, theirs.value as theirs from jsonb_each(line->'row') ours
            full join jsonb_each(row_to_json(t)::jsonb) theirs using (key)) d
         where d.ours::text is distinct from d.theirs::text limit 10]]):format(name))
   lu.assertEquals(differences[1] and table.concat(differences[1], " | "), nil)
   lu.assertEquals(#lines, math.tointeger(conn:value("select count(*) from " .. name)))
end

return values
