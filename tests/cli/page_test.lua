-- page_test.lua: the status page, in Chromium.
-- SPDX-License-Identifier: MIT

local browser = require "browser"
local cluster = require "cluster"
local ctl = require "ctl"
local fixtures = require "fixtures"
local lu = require "luaunit"
local native = require "native"
local served = require "served"

local TestPage = {}

-- The page turns when a target breaks, turns back, and goes on after the program is started anew.
function TestPage.test_a_target_is_broken()
   if not browser.is_there() then
      return
   end
   local db, target = fixtures.names(3), cluster.new { name = "target" }
   target:createdb "reports"
   local port = native.free_port()
   local options = { dsn = db, listen = "127.0.0.1:" .. port, script = ([[
      local t = pgcdc.source { table = "t", interval = 0.05 }
      t:filter(function(c) return c.row.id > 1 end)
         :sink(pgcdc.sinks.postgres { connect = "%s", table = "copy", name = "reports" })]]):format(
         target:dsn "reports") }
   local p = served.start(options)
   local page = browser.new()
   page:open("http://127.0.0.1:" .. port .. "/")
   page:wait_text("#headline", "All is well")
   page:wait_text("#sources h3", "^public%.t$")
   page:wait_text("#sources", "3 changes")
   page:wait_text("#sink-rows", "reports %(postgres%)[%s\194\160]+works")
   lu.assertStrContains(page:eval [[
      document.querySelector("#picture svg").getAttribute("aria-label")]], "source t to filter")
   ctl.ok(p.program, "pause")
   page:wait_text("#headline", "Paused by a user")
   page:wait_text("#sources .tag", "^paused$")
   ctl.ok(p.program, "resume")
   page:wait_text("#headline", "All is well")
   target:stop "immediate"
   db:exec "INSERT INTO t VALUES (4, 'x')"
   page:wait_text("#headline", "not all is well")
   page:wait_text("#problems", "reports: a sink fails[^\n]*\n[^\n]*connection")
   page:wait_text("#holding", "the sink reports")
   page:wait_text("#sources .tag", "^waits$") -- nobody has paused it
   lu.assertEquals(page:eval "document.querySelectorAll('#picture .bad').length", 1)
   target:start()
   page:wait_text("#headline", "All is well", 60)
   lu.assertEquals(page:eval "document.querySelectorAll('#picture .bad').length", 0)
   p:stop()
   page:wait_text("#headline", "does not answer")
   options.state = p.program.state
   p = served.start(options)
   page:wait_text("#headline", "All is well")
   page:wait_text("#sources", "0 changes")
   -- nothing came from elsewhere, and nothing was wrong
   lu.assertEquals(page:eval [[performance.getEntriesByType("resource")
      .filter(e => !e.name.startsWith(location.origin)).length]], 0)
   p:stop()
end

-- Values that an operator holds are not delivered: the source is not up to date.
function TestPage.test_what_is_held()
   if not browser.is_there() then
      return
   end
   local p = served.start { dsn = fixtures.names(3), script = [[
      pgcdc.source { table = "t", interval = 0.05 }:timed_window(3600):sink(function() end)]] }
   local page = browser.new()
   page:open("http://" .. p.listen .. "/")
   page:wait_text("#sources .tag", "^held back$")
   page:wait_text("#holding", "the operator timed_window")
   p:stop()
end

-- What names say is text, whatever it is.
function TestPage.test_names_are_text()
   if not browser.is_there() then
      return
   end
   local db = fixtures.database [[CREATE TABLE "<img src=x onerror=document.title='bad'>" (id int
      PRIMARY KEY)]]
   local port = native.free_port()
   local p = served.start { dsn = db, listen = "127.0.0.1:" .. port, script = [[
      pgcdc.source { table = '"<img src=x onerror=document.title=\'bad\'>"' }
         :on("change", function() end)]] }
   local page = browser.new()
   page:open("http://127.0.0.1:" .. port .. "/")
   page:wait_text("#sources h3", "<img src=x")
   lu.assertEquals(page:eval "document.querySelectorAll('img').length", 0)
   lu.assertStrContains(page:eval "document.title", "script.lua")
   p:stop()
end

-- A standby says that it stands by, and nothing of what only a leader does.
function TestPage.test_a_standby()
   if not browser.is_there() then
      return
   end
   local db = fixtures.names(1)
   local options = { dsn = db, state = false, options = { "--state", db:dsn(), "--name", "n" },
      script = "pgcdc.source { table = 't', interval = 0.05 }:on('change', print)" }
   local leader = served.start(options)
   leader:wait_stderr "ready"
   local p = served.start(options)
   p:wait_stderr "waiting: "
   local page = browser.new()
   page:open("http://" .. p.listen .. "/")
   page:wait_text("#headline", "Standby")
   page:wait_text("#role", "pid " .. leader:pid() .. ", leads")
   lu.assertStrMatches(page:wait_text("#sources", "t"), "t%s+stands by%s+table t, by xmin, .*s")
   lu.assertEquals(page:eval [[[...document.querySelectorAll("main h2")]
      .filter(e => e.getClientRects().length > 0).map(e => e.innerText).join()]], "Sources")
   leader:stop()
   page:wait_text("#headline", "All is well", 60)
   page:wait_text("#sources", "up to date")
   page:wait_text("main", "What holds positions back")
   p:stop()
end

return TestPage
