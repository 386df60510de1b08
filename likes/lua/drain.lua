-- Promise: counters move from `pending` into the one batch in flight without a moment in which a like is in
-- neither or in both; a batch that somebody else is moving is left alone until it is old.
--
-- KEYS  1 dirty  2 inflight  3 batch  4 since  5 gen  6 accepted  7 epoch  8 a key that never exists
--       then the pending counter of each post
-- ARGV  1 a UUID for the new batch   2 microseconds after which a batch is adopted   then each post
--
-- Answers {"busy"}, {"idle"}, or {"drained" | "adopted", batch, inflight, gen, counters left in dirty},
-- the two hashes as flat lists. Its first write never allocates: a Redis at its memory limit would refuse
-- that, and then nothing could ever leave it.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function answer(status, inflight)
  return {
    status, redis.call('HGETALL', KEYS[3]), inflight,
    redis.call('GET', KEYS[5]) or '', redis.call('SCARD', KEYS[1]),
  }
end

if redis.call('EXISTS', KEYS[3]) == 1 then
  local age = now - tonumber(redis.call('HGET', KEYS[3], 'adopted_at'))
  -- A clock that was set back makes the age negative; then too somebody has to take the batch.
  if age >= 0 and age < tonumber(ARGV[2]) then return {'busy'} end
  redis.call('DEL', KEYS[8])
  redis.call('HSET', KEYS[3], 'adopted_at', string.format('%.0f', now))
  return answer('adopted', redis.call('HGETALL', KEYS[2]))
end

local CHUNK = 1000 -- values handed to one command: Lua's stack ends at about 8,000
local moved, n = {}, 0
for i = 3, #ARGV do
  local likes = redis.call('GETDEL', KEYS[8 + i - 2])
  if likes then
    moved[n + 1], moved[n + 2] = ARGV[i], likes
    n = n + 2
  end
end
for i = 3, #ARGV, CHUNK do
  redis.call('SREM', KEYS[1], unpack(ARGV, i, math.min(i + CHUNK - 1, #ARGV)))
end
if n == 0 then return {'idle'} end
for i = 1, n, CHUNK do
  redis.call('HSET', KEYS[2], unpack(moved, i, math.min(i + CHUNK - 1, n)))
end

local epoch = redis.call('GET', KEYS[7])
if not epoch then -- somebody deleted it: a shard without one could never be applied
  epoch = ARGV[1]
  redis.call('SET', KEYS[7], epoch)
end
redis.call('HSET', KEYS[3],
  'id', ARGV[1], 'kind', 'like', 'failures', '0',
  'drained_at', string.format('%.0f', now), 'adopted_at', string.format('%.0f', now),
  'since', redis.call('GET', KEYS[4]) or string.format('%.0f', now),
  'accepted', redis.call('GET', KEYS[6]) or '0', 'epoch', epoch)
if redis.call('SCARD', KEYS[1]) == 0 then redis.call('DEL', KEYS[4]) end
local gen = math.max(tonumber(redis.call('GET', KEYS[5]) or '0') + 1, now)
redis.call('SET', KEYS[5], string.format('%.0f', gen))
return answer('drained', moved)
