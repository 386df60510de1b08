-- Promise: a batch that PostgreSQL holds leaves Redis in the same moment in which its likes enter `base`;
-- whoever comes late, or from before an adjustment, drops what it thinks it knows instead.
--
-- KEYS  1 batch  2 inflight  3 gen  4 version   then the base of each post, then the pending of each post
-- ARGV  1 batch id   2 gen as the drain or adoption answered it   3 seconds an idle base lives
--       then for each post: its persisted total, or "" when the post is gone
--
-- Answers {"acked" | "adjusted" | "late", version, the pending count of each post}.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local gen = redis.call('GET', KEYS[3]) or '0'
local ours = redis.call('HGET', KEYS[1], 'id') == ARGV[1]
local unmoved = ours and gen == ARGV[2]
local pendings = {}

local CHUNK = 1000 -- values handed to one command: Lua's stack ends at about 8,000
local posts = #ARGV - 3

if ours then redis.call('DEL', KEYS[2], KEYS[1]) end
for first = 1, posts, CHUNK do
  local last = math.min(first + CHUNK - 1, posts)
  local found = redis.call('MGET', unpack(KEYS, 4 + posts + first, 4 + posts + last))
  for i = first, last do
    local base_key, total, pending = KEYS[4 + i], ARGV[3 + i], found[i - first + 1]
    if not unmoved or total == '' then
      redis.call('DEL', base_key)
    elseif pending then
      redis.call('SET', base_key, total) -- no expiry: new likes came meanwhile
    else
      redis.call('SET', base_key, total, 'EX', ARGV[3])
    end
    pendings[i] = pending or '0'
  end
end

redis.call('SET', KEYS[3], string.format('%.0f', math.max(tonumber(gen) + 1, now)))
-- A total may have changed here: what PostgreSQL refused went into quarantine. A version too many harms nobody.
local version = string.format('%.0f', math.max(tonumber(redis.call('GET', KEYS[4]) or '0') + 1, now))
redis.call('SET', KEYS[4], version)
local status = unmoved and 'acked' or ours and 'adjusted' or 'late'
return {status, version, pendings}
