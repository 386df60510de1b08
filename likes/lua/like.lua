-- Promise: each like of this call is counted whole or not at all, and once under its Idempotency-Key.
--
-- KEYS  1 dirty  2 inflight  3 accepted  4 version  5 since  6 epoch  7 the key of the whole call
--       then the pending of each like, then the base of each, then the own key of each that has one
-- ARGV  1 seconds an answer is kept   2 a UUID, for the epoch that begins with a first like
--       3 what to keep under key 7; "" when the call has no key
--       4 how many of the likes have a key of their own: the last ones   then for each like: post, count
--
-- Answers {kept answer of the call or false, {status, base, inflight, pending, version} for each like}
-- with status 0 cold (nothing written), 1 counted, 2 answered before, 3 not counted, as one of its keys holds
-- something else or its counter would overflow (the error stands for `base`): that touches no other like. A
-- call under a key that meets a cold post or such a key writes nothing at all. `base` stays a string: Lua's
-- numbers end at 2^53.

local call = redis.call
local keep, call_answer = ARGV[1], ARGV[3]
local count = (#ARGV - 4) / 2
local plain = count - tonumber(ARGV[4])
local answers = {}

if call_answer ~= '' then
  local kept = call('GET', KEYS[7])
  if kept then return {kept, answers} end
end

local CHUNK = 1000 -- values handed to one command: Lua's stack ends at about 8,000
local bases = {}
for first = 1, count, CHUNK do
  local last = math.min(first + CHUNK - 1, count)
  local found = call('MGET', unpack(KEYS, 7 + count + first, 7 + count + last))
  for i = first, last do bases[i] = found[i - first + 1] end
end

if call_answer ~= '' then
  local cold = false
  for i = 1, count do
    -- What is no counter fails here, while nothing is written.
    local pending = call('GET', KEYS[7 + i])
    if pending and not tonumber(pending) then return redis.error_reply('ERR a counter is no number') end
    answers[i] = {bases[i] and 1 or 0, '0', '0', 0, 0}
    cold = cold or not bases[i]
  end
  if cold then return {false, answers} end
end

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local version = math.max(tonumber(call('GET', KEYS[4]) or '0'), now - 1)
local moving = call('EXISTS', KEYS[2]) == 1
local accepted = 0
local fresh = false -- is any counter new?
local whole = true -- was each like counted?

for i = 1, count do
  local base = bases[i]
  local own_key = i > plain and KEYS[7 + 2 * count + i - plain]
  local kept = own_key and redis.pcall('GET', own_key)
  if type(kept) == 'table' then
    answers[i] = {3, kept.err, '0', 0, 0}
  elseif kept then
    local parts = {2}
    for part in string.gmatch(kept, '%S+') do parts[#parts + 1] = part end
    answers[i] = parts
  elseif not base then
    answers[i] = {0, '0', '0', 0, 0}
  else
    -- First, as Redis at its memory limit refuses a script at its first write and never later.
    local post, likes = ARGV[3 + i * 2], ARGV[4 + i * 2]
    local pending = redis.pcall('INCRBY', KEYS[7 + i], likes)
    if type(pending) == 'table' then
      if not string.find(pending.err, '^%-?WRONGTYPE') and not string.find(pending.err, '^%-?ERR') then
        return pending
      end
      answers[i] = {3, pending.err, '0', 0, 0}
      whole = false
    else
      local added = tonumber(likes)
      if pending == added then -- a new counter; one that was there is in `dirty`, and its base has no expiry
        call('SADD', KEYS[1], post)
        call('PERSIST', KEYS[7 + count + i])
        fresh = true
      end
      local inflight = moving and call('HGET', KEYS[2], post) or '0'
      version = version + 1
      accepted = accepted + added
      answers[i] = {1, base, inflight, pending, version}
      if own_key then
        call('SET', own_key, string.format('%s %s %.0f %.0f', base, inflight, pending, version), 'EX', keep)
      end
    end
  end
end

if accepted > 0 then
  call('INCRBY', KEYS[3], string.format('%.0f', accepted))
  call('SET', KEYS[4], string.format('%.0f', version))
end
if fresh then
  call('SET', KEYS[5], string.format('%.0f', now), 'NX')
  call('SET', KEYS[6], ARGV[2], 'NX')
end
if call_answer ~= '' and whole then call('SET', KEYS[7], call_answer, 'EX', keep) end
return {false, answers}
