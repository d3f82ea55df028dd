-- opensearch.lua: throw-away servers of OpenSearch: what stands in for one, and real ones.
-- SPDX-License-Identifier: MIT
--
-- The first is opensearch.py. Real ones are for `make check-opensearch`, which puts the server's
-- jars into build/opensearch; there `new` starts these. All listen on a port of 127.0.0.1 and die
-- with their scope.

local child = require "child"
local files = require "files"
local json = require "json"
local native = require "native"
local receiver = require "receiver"
local scope = require "scope"
local tree = require "tree"
local wait = require "wait"

local opensearch = {}

local JARS = tree.top .. "/build/opensearch"

local methods = {}
local mt = { __name = "opensearch", __index = methods }

opensearch.is_there = receiver.is_there

-- True in `make check-opensearch`.
opensearch.is_real = os.getenv "PGCDC_OPENSEARCH" ~= nil

-- A server without documents.
function opensearch.new()
   if not opensearch.is_real then
      local self = receiver.new { program = "opensearch" }
      self.request = methods.request
      return self
   end
   local self = setmetatable({ dir = scope.dir "opensearch", port = assert(native.free_port()),
                               transport_port = assert(native.free_port()) }, mt)
   assert(native.mkdir(self.dir .. "/config"))
   self:start()
   scope.add(function() self:kill() end)
   return self
end

-- What the server answers to a request, or nil. `body`: JSON, or nil.
function methods:request(method, path, body)
   local argv = { "curl", "-s", "-f", "-X", method, self:url(path) }
   if body then
      table.move({ "-H", "Content-Type: application/json", "-d", body }, 1, 4, #argv + 1, argv)
   end
   local text, status = child.run({ argv = argv, stderr = "null" }, 60)
   return status.exit == 0 and json.decode(text) or nil
end

function methods:start()
   self.proc = assert(native.spawn {
      argv = { "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
               ("%s/libs/*:%s"):format(JARS, JARS), "Server", self.dir, tostring(self.port),
               tostring(self.transport_port) },
      stdout = self.dir .. "/out", stderr = self.dir .. "/out",
   })
   wait.until_(function()
      assert(self.proc:alive(), files.read(self.dir .. "/out"))
      return self:request("GET", "/_cluster/health?wait_for_status=yellow")
   end, 60, "OpenSearch")
end

-- SIGKILL.
function methods:kill()
   self.proc:kill "KILL"
   self.proc:wait(wait.scaled(10))
end

function methods:url(path)
   return ("http://127.0.0.1:%d%s"):format(self.port, path)
end

-- The documents of an index by their ids.
function methods:documents(index)
   self:request("POST", "/" .. index .. "/_refresh")
   local answer = self:request("GET", "/" .. index .. "/_search?size=10000")
   local documents = {}
   for _, hit in ipairs(answer and answer.hits.hits or {}) do
      documents[hit._id] = hit._source
   end
   return documents
end

-- From now on `name` of new indexes must be an integer. What stands in refuses "bad" always.
function methods:be_picky()
   assert(self:request("PUT", "/_index_template/picky", [[{"index_patterns": ["*"],
      "template": {"settings": {}, "mappings": {"properties": {"name": {"type": "integer"}}}}}]]))
end

return opensearch
