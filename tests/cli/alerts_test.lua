-- alerts_test.lua: the alert rules and the board that are installed.
-- SPDX-License-Identifier: MIT

local cluster = require "cluster"
local child = require "child"
local files = require "files"
local fixtures = require "fixtures"
local json = require "json"
local lu = require "luaunit"
local native = require "native"
local scope = require "scope"
local served = require "served"
local tree = require "tree"
local wait = require "wait"

local TestAlerts = {}

local RULES, BOARD = tree.top .. "/src/dist/alerts.yml", tree.top .. "/src/dist/grafana.json"

local function promtool(...)
   if not served.is_there "promtool" then
      return
   end
   local text, ended = child.run { argv = { "sh", "-c", '"$0" "$@" 2>&1', served.find "promtool",
                                            ... } }
   lu.assertEquals(ended.exit, 0, text)
end

function TestAlerts.test_the_rules_are_right()
   promtool("check", "rules", RULES)
end

-- ---- when they fire ----

local AT = 'instance="a", job="cdc"'
local OF = AT .. ', source="public.t"'

-- What fires a rule: series, each sampled once a minute; when it fires, and when it does not yet.
local cases = {
   PgcdcLoopStandsStill = { { "up", AT, "1x5 0x60" }, fires = 8, not_yet = 5 },
   PgcdcIsAway = { { "up", AT, "1x5 _x60" }, fires = 17, not_yet = 12 },
   PgcdcStartsAgainAndAgain = { { "start_time_seconds", AT, "1 2 3 4 5 5x60" }, fires = 6,
                                not_yet = 1 },
   PgcdcIsLate = { { "delivery_lag_seconds", OF .. ', since="read"', "10x5 400x60" }, fires = 12,
                   not_yet = 8 },
   PgcdcIsNotReady = { { "ready", AT, "1x5 0x60" }, fires = 37, not_yet = 30 },
   PgcdcPollsFail = { { "polls_total", OF .. ', result="error"', "0+1x60" },
                      { "polls_total", OF .. ', result="changed"', "7x60" },
                      fires = 20, not_yet = 3 },
   PgcdcSinkFails = { { "sink_failing", AT .. ', sink="reports"', "0x5 1x60" }, fires = 12,
                      not_yet = 8 },
   PgcdcGivesUpChanges = { { "failed_total", OF, "0x5 3x60" }, fires = 7, not_yet = 4 },
   PgcdcSinkRefusesRecords = { { "sink_refused_total", AT .. ', sink="reports"', "0x5 2x60" },
                               fires = 7, not_yet = 4 },
   PgcdcHasNoStandby = { { "standbys", AT, "1x5 0x60" }, fires = 25, not_yet = 15 },
   PgcdcHasNoLeader = { { "leader", AT, "1x5 0x60" }, fires = 12, not_yet = 4 },
   PgcdcIsTakenAgainAndAgain = { { "lease_epoch", AT, "1x5 2+1x60" }, fires = 14, not_yet = 3 },
   PgcdcWorkerFails = { { "worker_restarts_total", AT .. ', worker="enrich/3"', "2x5 2+1x60" },
                        fires = 14, not_yet = 5 },
   PgcdcPositionIsOld = { { "position_age_seconds", OF, "0+60x60" },
                          { "unsaved_batches", OF, "1x60" }, fires = 40, not_yet = 32 },
   PgcdcSlotKeepsTheLog = { { "slot_retained_bytes", OF, "1e9x5 9e9x60" }, fires = 12,
                            not_yet = 8 },
   PgcdcSpools = { { "spool_bytes", OF, "0x5 2e9x60" }, fires = 20, not_yet = 12 },
}

-- What a pipeline that is well has for an hour.
local WELL = {
   { "worker_restarts_total", AT .. ', worker="enrich/3"', "2x30 3x30" },
   { "leader", AT, "1x60" }, { "standbys", AT, "1x60" }, { "lease_epoch", AT, "7x60" },
   { "up", AT, "1x60" }, { "ready", AT, "1x60" }, { "start_time_seconds", AT, "5x60" },
   { "delivery_lag_seconds", OF .. ', since="read"', "2x60" },
   { "polls_total", OF .. ', result="error"', "0+1x60" }, -- some fail, others do not
   { "polls_total", OF .. ', result="empty"', "0+30x60" },
   { "sink_failing", AT .. ', sink="reports"', "0x60" }, { "failed_total", OF, "3x60" },
   { "sink_refused_total", AT .. ', sink="reports"', "2x60" },
   { "position_age_seconds", OF, "0+60x60" }, { "unsaved_batches", OF, "0x60" },
   { "slot_retained_bytes", OF, "1e9x60" }, { "spool_bytes", OF, "0x60" },
}

local function put_series(list, series)
   list[#list + 1] = "  - interval: 1m\n    input_series:"
   for _, one in ipairs(series) do
      list[#list + 1] = ("      - series: 'pgcdc_lua_%s{%s}'\n        values: '%s'"):format(one[1],
         one[2], one[3])
   end
   list[#list + 1] = "    promql_expr_test:"
end

local function put_count(list, alert, minutes, count)
   list[#list + 1] = ([[
      - expr: count(ALERTS{alertname=~"%s", alertstate="firing"}) or vector(0)
        eval_time: %dm
        exp_samples: [{labels: '{}', value: %d}] ]]):format(alert, minutes, count)
end

function TestAlerts.test_each_rule_fires_when_it_is_to()
   local list = { ("rule_files: ['%s']\nevaluation_interval: 1m\ntests:"):format(RULES) }
   for alert, case in pairs(cases) do
      put_series(list, case)
      put_count(list, alert, case.not_yet, 0)
      put_count(list, alert, case.fires, 1)
   end
   put_series(list, WELL)
   for _, minutes in ipairs { 1, 10, 30, 59 } do
      put_count(list, ".*", minutes, 0)
   end
   local path = scope.dir "alerts" .. "/test.yml"
   files.write(path, table.concat(list, "\n") .. "\n")
   promtool("test", "rules", path)
   for alert in files.text(RULES):gmatch "alert: (%w+)" do
      lu.assertNotNil(cases[alert], alert .. " is tested")
   end
end

-- ---- what they name ----

-- Expressions of the board, as Prometheus would get them.
local function expressions()
   local list, ids, places = {}, {}, {}
   for _, panel in ipairs(json.decode(files.text(BOARD)).panels) do
      lu.assertNil(ids[panel.id], panel.title)
      ids[panel.id] = true
      local g = panel.gridPos
      lu.assertTrue(g.x + g.w <= 24, panel.title)
      for x = g.x, g.x + g.w - 1 do
         for y = g.y, g.y + g.h - 1 do
            lu.assertNil(places[x .. "," .. y], panel.title .. " is where another one is")
            places[x .. "," .. y] = true
         end
      end
      for _, target in ipairs(panel.targets or {}) do
         list[#list + 1] = target.expr:gsub("%$__rate_interval", "5m"):gsub("%$instance", ".*")
            :gsub("%$source", ".*")
      end
   end
   return list
end

function TestAlerts.test_the_board_asks_what_can_be_asked()
   local list = { "groups:\n  - name: board\n    rules:" }
   for i, text in ipairs(expressions()) do
      list[#list + 1] = ("      - record: panel_%d\n        expr: '%s'"):format(i, text)
   end
   lu.assertTrue(#list > 30)
   local path = scope.dir "board" .. "/board.yml"
   files.write(path, table.concat(list, "\n") .. "\n")
   promtool("check", "rules", path)
end

-- ---- a real Prometheus ----

-- Starts one that scrapes the programs and evaluates the rules twice a second. Returns a
-- function that asks for a path and returns what `data` of the answer is.
local function prometheus(p, other)
   local dir, port = scope.dir "prometheus", native.free_port()
   files.write(dir .. "/p.yml", ([[
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: ['%s']
scrape_configs: [{job_name: cdc, static_configs: [{targets: ["%s", "%s"]}]}]
]]):format(RULES, p.listen, other.listen))
   local proc = assert(native.spawn {
      argv = { served.find "prometheus", "--config.file=" .. dir .. "/p.yml",
               "--storage.tsdb.path=" .. dir .. "/data",
               "--web.listen-address=127.0.0.1:" .. port },
      stdout = "null", stderr = "null",
   })
   scope.add(function()
      proc:kill "KILL"
      proc:wait(wait.scaled(10))
   end)
   return function(path, query)
      local _, body = served.get({ listen = "127.0.0.1:" .. port }, path .. (query or ""):gsub(
         "[^%w]", function(c) return ("%%%02x"):format(c:byte()) end))
      local answer = body and body:find "^{" and json.decode(body)
      lu.assertTrue(not answer or answer.status == "success", body)
      return answer and answer.data
   end
end

-- True if the expression asks for what only sources by the log or of topics, a state in a database,
-- or a member of a group, have.
local function has_others(text)
   for _, name in ipairs { "slot_retained_bytes", "leader", "standbys", "lease_", "records_left",
                           "worker_" } do
      if text:find("pgcdc_lua_" .. name, 1, true) then
         return true
      end
   end
end

-- It has what the program says, each expression of the board answers, and no rule fails.
local function check_prometheus(p, leader)
   local ask = prometheus(p, leader)
   local function query(text)
      local data = ask("/api/v1/query?query=", text)
      return data and data.result or {}
   end
   local found
   wait.until_(function()
      found = query 'count_over_time(pgcdc_lua_changes_total{op="read"}[5m]) > 2'
      return found[1]
   end, 40, function() return "Prometheus to have scraped it" end)
   lu.assertEquals(query('pgcdc_lua_changes_total{op="read"}')[1].value[2], "4")
   lu.assertEquals(query("up")[1].value[2], "1")
   for _, text in ipairs(expressions()) do
      if not has_others(text) then
         lu.assertNotNil(query((text:gsub(" > 0$", "")))[1], text) -- that leaves out what is 0
      end
   end
   local rules = 0
   for _, group in ipairs(ask("/api/v1/rules").groups) do
      for _, rule in ipairs(group.rules) do
         rules = rules + 1
         lu.assertEquals({ rule.health, rule.lastError }, { "ok", nil }, rule.name)
         lu.assertNotEquals(rule.state, "firing", rule.name)
      end
   end
   lu.assertTrue(rules >= 12)
end

-- A program that has one of everything, but for a slot.
function TestAlerts.test_each_figure_is_there()
   if not served.is_there() then
      return
   end
   local p = served.start { dsn = fixtures.names(4), script = ([[
      local t = pgcdc.source { table = "t", interval = 0.05 }
      t:sink(pgcdc.sinks.jsonl { path = "%s/t.jsonl", name = "lines" })
      t:partition(3):sink(function() end)]]):format(scope.dir "out") }
   p:wait_ready(200)
   p:wait_status("all is written, and a value held", function(s)
      return s.operators[1] and s.operators[1].held_batches == 1 and s.sinks[1].records == 4
   end)
   local samples, text = p:metrics()
   lu.assertEquals(samples['pgcdc_lua_sink_records_total{sink="lines"}'], 4)
   lu.assertTrue(samples['pgcdc_lua_sink_bytes_total{sink="lines"}'] > 40)
   lu.assertEquals(samples['pgcdc_lua_sink_unsent_records{sink="lines"}'], 0)
   lu.assertEquals(
      samples['pgcdc_lua_handler_seconds_count{source="public.t",handler="sink, partition"}'], 4)
   local leader = served.start { dsn = fixtures.names(4), script = 'pgcdc.source { table = "t" }',
                                 state = cluster.main():database():dsn() }
   leader:wait_ready(200)
   if served.is_there "prometheus" then
      check_prometheus(p, leader)
   end
   p:stop()
   local _, more = leader:metrics()
   text = text .. more
   leader:stop()
   local asked = files.text(RULES) .. files.text(BOARD)
   local names = {}
   for name in asked:gmatch "pgcdc_lua_([%l_]+)" do
      names[name] = true
   end
   names.slot_retained_bytes = nil -- of capture = "logical" only
   for _, name in ipairs { "records_left", "worker_records_left", "worker_ready",
                           "worker_restarts_total" } do
      names[name] = nil -- see group_test
   end
   for name in pairs(names) do
      lu.assertStrContains(text, "\npgcdc_lua_" .. name, false, name)
   end
   for name in text:gmatch "# TYPE pgcdc_lua_([%l_]+)" do
      lu.assertTrue(names[name] or names[name .. "_bucket"] or name == "build_info",
         name .. " is on the board")
   end
end

return TestAlerts
