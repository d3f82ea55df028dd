-- .luacheckrc: what luacheck is told of our Lua.
-- SPDX-License-Identifier: MIT
std = "lua54"
max_line_length = false -- lint.lua counts the columns
files["scripts"].read_globals = {"pgcdc"}
files["tests/scripts/offline"] = { read_globals = { "pgcdc" }, allow_defined = true, globals = {
   "TestCount", "TestFiles", "TestTargets" } }
