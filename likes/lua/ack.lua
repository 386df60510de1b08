-- Promise: a batch that PostgreSQL holds leaves Redis in the same moment in which its likes enter `base`;
-- whoever comes late, or from before an adjustment, drops what it thinks it knows instead.
--
-- KEYS  1 batch  2 inflight  3 gen  4 version   then the base of each post, then the pending of each post
-- ARGV  1 batch id   2 gen as the drain or adoption answered it   3 seconds an idle base lives
--       then for each post: its persisted total, or "" when the post is gone
--
-- Answers {"acked" | "adjusted" | "late", version, places of the posts that have likes pending again, their counts}.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local gen = redis.call('GET', KEYS[3]) or '0'
local ours = redis.call('HGET', KEYS[1], 'id') == ARGV[1]
local unmoved = ours and gen == ARGV[2]
local again, likes = {}, {}

local CHUNK = 1000 -- posts handed to one command: Lua's stack ends at about 8,000
local posts = #ARGV - 3

-- One command for all bases is cheaper than one for each; servers before Valkey 9.1 and Redis 8.4 lack it.
local function set_expiring(bases)
  local command = {#bases / 2, unpack(bases)}
  command[#command + 1] = 'EX'
  command[#command + 1] = ARGV[3]
  local reply = redis.pcall('MSETEX', unpack(command))
  if type(reply) == 'table' and reply.err then
    for i = 1, #bases, 2 do redis.call('SET', bases[i], bases[i + 1], 'EX', ARGV[3]) end
  end
end

if ours then redis.call('DEL', KEYS[2], KEYS[1]) end
for first = 1, posts, CHUNK do
  local last = math.min(first + CHUNK - 1, posts)
  local found = redis.call('MGET', unpack(KEYS, 4 + posts + first, 4 + posts + last))
  local idle, busy, gone = {}, {}, {}
  for i = first, last do
    local base_key, total, pending = KEYS[4 + i], ARGV[3 + i], found[i - first + 1]
    if pending then again[#again + 1], likes[#likes + 1] = i, pending end
    if not unmoved or total == '' then
      gone[#gone + 1] = base_key
    else
      local bases = pending and busy or idle
      bases[#bases + 1] = base_key
      bases[#bases + 1] = total
    end
  end
  if #gone > 0 then redis.call('DEL', unpack(gone)) end
  if #busy > 0 then redis.call('MSET', unpack(busy)) end -- no expiry: new likes came meanwhile
  if #idle > 0 then set_expiring(idle) end
end

redis.call('SET', KEYS[3], string.format('%.0f', math.max(tonumber(gen) + 1, now)))
-- A total may have changed here: what PostgreSQL refused went into quarantine. A version too many harms nobody.
local version = string.format('%.0f', math.max(tonumber(redis.call('GET', KEYS[4]) or '0') + 1, now))
redis.call('SET', KEYS[4], version)
local status = unmoved and 'acked' or ours and 'adjusted' or 'late'
return {status, version, again, likes}
