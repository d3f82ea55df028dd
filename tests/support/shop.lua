-- shop.lua: what writers do to tables that refer to each other: customers, accounts, notes.
-- SPDX-License-Identifier: MIT
--
-- A customer has a `mail` that is unique, and may have a `best` account; an account has a `slot`
-- that is unique, and a `customer`; a note has an `account`, and may have an `earlier` note.
--
-- A step is SQL for one transaction, in which `n` is a new number, `a` and `b` were new once, and
-- CK, AK, NK and LK are the names of keys.

local shop = {}

shop.steps = {
   -- values change hands
   [[update customer set mail = (select o.mail from customer o where o.CK = a + b - customer.CK)
        where CK in (a, b) and (select count(*) from customer where CK in (a, b)) = 2]],
   [[update account t set slot = s.slot from (select AK, lead(slot, 1, first) over (order by AK)
        slot from (select AK, slot, first_value(slot) over (order by AK) first from account
           where AK % 5 = a % 5) x) s where s.AK = t.AK]],
   -- rows go, and others take their values and their children
   [[update customer set best = null where best in (select AK from account where customer = a);
     update account set customer = b where customer = a and exists (select from customer
        where CK = b) and a <> b;
     with d as (delete from customer where CK = a and not exists (select from account
        where customer = a) returning mail) update customer set mail = d.mail from d where CK = b]],
   [[update note set earlier = null where earlier in (select NK from note where account = a);
     update customer set best = null where best = a;
     with d as (delete from account where AK = a returning slot)
        update account set slot = d.slot from d where AK = b]],
}

-- The SQL of a step. <n>: the new number; <keys>: the names of keys, as {CK = "id"}.
function shop.sql(step, n, keys)
   local known = { n = n, a = math.random(math.max(n - 60, 1), n),
                   b = math.random(math.max(n - 60, 1), n) }
   local sql = step:gsub("%f[%w]([nab])%f[%W]", known):gsub("%f[%w]([CANL]K)%f[%W]", keys)
   return "begin; " .. sql .. "; commit"
end

return shop
