-- Promise: counts a data error against the batch that had it, and against no other.
--
-- KEYS  1 batch  2 a key that never exists
-- ARGV  1 batch id
--
-- Answers how often the batch has failed, 0 when it is gone. Begins with DEL, as the drain does.

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
return redis.call('HINCRBY', KEYS[1], 'failures', 1)
