-- Promise: after a total was changed by other means than a like, nothing that Redis knew of it is shown or
-- stored again: the bases are gone, and whoever read PostgreSQL before now finds `gen` moved.
--
-- KEYS  1 gen  2 version   then the base of each post

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
for i = 1, 2 do
  local grown = math.max(tonumber(redis.call('GET', KEYS[i]) or '0') + 1, now)
  redis.call('SET', KEYS[i], string.format('%.0f', grown))
end
return redis.call('GET', KEYS[2])
