-- Promise: live totals of one moment; and a base is stored only while what it was computed from still holds.
--
-- KEYS  1 gen  2 batch  3 inflight  4 version   then for each post: its base, its pending
-- ARGV  1 seconds an idle base lives   2 gen and 3 batch id as they were before PostgreSQL was asked
--       then for each post: post, base to store or "" (nothing to store)
--
-- Answers {gen, batch id, version, {base or false, inflight, pending} for each post}. The caller that gets
-- a false asks PostgreSQL and comes back with what it found, with the gen and the batch id of this answer.

local gen = redis.call('GET', KEYS[1]) or ''
local batch = redis.call('HGET', KEYS[2], 'id') or ''
local unmoved = gen == ARGV[2] and batch == ARGV[3]
local posts = {}

for i = 1, (#ARGV - 3) / 2 do
  local base_key, pending_key = KEYS[4 + i * 2 - 1], KEYS[4 + i * 2]
  local post, found = ARGV[3 + i * 2 - 1], ARGV[3 + i * 2]
  local base = redis.call('GET', base_key)
  local inflight = redis.call('HGET', KEYS[3], post)
  local pending = redis.call('GET', pending_key)
  if not base and found ~= '' and unmoved then
    if inflight or pending then
      redis.call('SET', base_key, found) -- no expiry: likes of the post are on their way
    else
      redis.call('SET', base_key, found, 'EX', ARGV[1])
    end
    base = found
  end
  posts[i] = {base, inflight or '0', pending or '0'}
end

return {gen, batch, redis.call('GET', KEYS[4]) or '0', posts}
