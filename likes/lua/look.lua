-- Promise: everything the audit needs of a shard, from one moment; changes nothing.
--
-- KEYS  1 gen  2 batch  3 inflight  4 accepted  5 epoch  6 dirty   then the pending counter of each post
--
-- Answers {gen, batch id, accepted, epoch, posts in dirty, {likes in flight}, {pending likes or false}}.

local pendings = {}
for i = 7, #KEYS do pendings[i - 6] = redis.call('GET', KEYS[i]) end
return {
  redis.call('GET', KEYS[1]) or '', redis.call('HGET', KEYS[2], 'id') or '',
  redis.call('GET', KEYS[4]) or '0', redis.call('GET', KEYS[5]) or '',
  redis.call('SCARD', KEYS[6]), redis.call('HVALS', KEYS[3]), pendings,
}
