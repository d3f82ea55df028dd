-- picture.lua: a table as one text: its columns with their types, and its rows.
-- SPDX-License-Identifier: MIT
--
-- The order of columns does not count, nor does the column of the triggers.

local picture = {}

-- SQL of the function that does it.
picture.ddl = [[
   create function picture(t regclass, order_by text) returns text language plpgsql as $$
      declare columns text; names text; rows text; begin
      select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attname),
         string_agg(quote_ident(attname), ', ' order by attname) into columns, names
         from pg_attribute where attrelid = t and attnum > 0 and not attisdropped
            and attname <> 'pgcdc_xid';
      execute format('select string_agg(row(%s)::text, E''\n'' order by %s) from %s', names,
         order_by, t) into rows;
      return columns || E'\n' || coalesce(rows, ''); end $$;]]

-- The picture of a table, its rows in the order of this SQL, in a database after that SQL.
function picture.of(db, table, order)
   return db:value(("select picture(%s, %s)"):format("'" .. table .. "'", "'" .. order .. "'"))
end

return picture
