"""The Lua scripts by which Redis carries out a claim or a save in one atomic step.

A scope has one hash, its head, and one list per chunk. Fields of the head: `epoch`, `number`, `head` (bytes
of the owner) and, for every chunk, `chunk:<name>` = bytes appended so far. The lengths sit in the head hash,
not in a key of their own, so that they cannot be evicted or expire apart from the number they belong to.

Numbers are compared as the decimal strings that were stored; only whether an epoch is greater needs
arithmetic, which is exact in Lua up to 2**53 (as milliseconds: for 285,000 years).

Nothing is written before every check has passed, and a server that is out of memory refuses a script at its
first write or not at all, so that no save is carried out by half.
"""

from __future__ import annotations

# KEYS: head. ARGV: now_ms, ttl_ms. Returns the fields of the head after the claim, as HGETALL does.
CLAIM = """
local stored = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
local epoch = math.max(stored + 1, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: head, chunks to drop, chunks to append to, other chunks to keep alive.
# ARGV: epoch, number that must be stored ('': none), number to store, head, ttl_ms, how many chunks to drop,
#       how many to append to; then for each of these the count of its pieces and the pieces.
# Returns an outcome (saved, repeated, fenced, behind, lost) and why: stored epoch, stored number, lost field.
#
# A save whose reply got lost is sent again with the same arguments. It was carried out if the number to store
# is already stored under this epoch: no other lease can have written that, as each epoch is given out once.
# That its head is stored too says that the arguments are the same; anything else must not pass for saved.
SAVE = """
local head, drops, appends = KEYS[1], tonumber(ARGV[6]), tonumber(ARGV[7])
local stored = redis.call('HMGET', head, 'epoch', 'number')
local epoch, number = stored[1] or '', stored[2] or ''

if epoch ~= ARGV[1] then
  local newer = epoch ~= '' and tonumber(epoch) > tonumber(ARGV[1])
  return {newer and 'fenced' or 'behind', epoch, number, ''}
end
if number == ARGV[3] and redis.call('HGET', head, 'head') == ARGV[4] then
  return {'repeated', epoch, number, ''}
end
if number ~= ARGV[2] then
  return {'behind', epoch, number, ''}
end

-- Keys are <scope>:head and <scope>:chunk:<name>; the field of a chunk is its key without the scope.
local function field(key) return string.sub(key, #head - 3) end

local dropped = {}
for i = 2, 1 + drops do dropped[KEYS[i]] = true end
for i = 2 + drops, #KEYS do
  local key = KEYS[i]
  if not dropped[key] and redis.call('EXISTS', key) == 0 and redis.call('HEXISTS', head, field(key)) == 1 then
    return {'lost', epoch, number, field(key)}
  end
end

for i = 2, 1 + drops do
  redis.call('UNLINK', KEYS[i])
  redis.call('HDEL', head, field(KEYS[i]))
end
local at = 8
for i = 2 + drops, 1 + drops + appends do
  local key, bytes, last = KEYS[i], 0, at + tonumber(ARGV[at])
  -- A list without a length is left over from a head that was evicted. (Only then UNLINK: as a first write it
  -- would let the others pass on a server that is out of memory.)
  if redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', head, field(key)) == 0 then
    redis.call('UNLINK', key)
  end
  for j = at + 1, last do
    redis.call('RPUSH', key, ARGV[j])
    bytes = bytes + #ARGV[j]
  end
  redis.call('HINCRBY', head, field(key), bytes)
  at = last + 1
end
for i = 2 + drops, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
redis.call('HSET', head, 'number', ARGV[3], 'head', ARGV[4])
redis.call('PEXPIRE', head, ARGV[5])
return {'saved', epoch, ARGV[3], ''}
"""

# KEYS: table. ARGV: field, value, ttl_ms.
HINT = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
