-- pgcdc.mend: what mends a fault that --check has found, as something to run.
-- SPDX-License-Identifier: MIT
--
-- A mend is {kind =, text =, where = the database, of SQL; after = "restart" or "reload", what the
-- server needs then}. Kinds: "sql", for psql; "shell", for a shell; "option", NAME=VALUE of a
-- bundled script, or the field of that name; "pg_hba.conf", a line before the others there;
-- "nats-server.conf", a line there.

local mend = {}

--- SQL for this database, without a semicolon. `after`: "restart", or nil.
function mend.sql(database, text, after)
   return { kind = "sql", where = database, text = text .. ";", after = after }
end

function mend.shell(text)
   return { kind = "shell", text = text }
end

--- `value`: text, or a list, whose items are separated by commas.
function mend.option(name, value)
   return { kind = "option",
            text = ("%s=%s"):format(name, type(value) == "table" and table.concat(value, ",")
               or value) }
end

function mend.hba(text)
   return { kind = "pg_hba.conf", text = text, after = "reload" }
end

--- `after`: "restart" or "reload".
function mend.nats(text, after)
   return { kind = "nats-server.conf", text = text, after = after }
end

--- The text in quotes for a shell, where it needs them.
function mend.quoted(text)
   return text:find "^[%w_./:=,-]+$" and text or "'" .. text:gsub("'", "'\\''") .. "'"
end

--- A run of a bundled script that installs something for the table `t` = {name =, database =, role
--- = who is to read it}. `more`: further words, or nil.
function mend.install(script, t, more)
   return mend.shell(("pgcdc-lua -d %s %s action=install table=%s%s readers=%s"):format(
      mend.quoted("dbname=" .. t.database), script, mend.quoted(t.name),
      more and " " .. mend.quoted(more) or "", mend.quoted(t.role)))
end

--- A mend as a line.
function mend.line(m)
   local how = m.kind == "sql" and "SQL in " .. m.where or m.kind
   return ("%s%s: %s"):format(how, m.after and ", then " .. m.after or "", m.text)
end

return mend
