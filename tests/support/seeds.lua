-- seeds.lua: where random choices begin.
-- SPDX-License-Identifier: MIT

local native = require "native"

local seeds = {}

-- $PGCDC_TEST_SEED as a number, or nil.
seeds.asked = math.tointeger(tonumber(os.getenv "PGCDC_TEST_SEED" or ""))

-- Another one each time, also twice within a second.
function seeds.fresh()
   return os.time() * 1000003 + math.floor(native.now() * 1e6) % 1000003
end

return seeds
