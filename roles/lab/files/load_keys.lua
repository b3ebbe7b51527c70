-- SPDX-License-Identifier: GPL-3.0-or-later
-- Fill redis with ARGV[1] keys of different types and sizes, the same ones every time.
local wanted = tonumber(ARGV[1])
if redis.call('DBSIZE') >= wanted then
  return 'unchanged'
end
for number = 1, wanted do
  local key = 'key:' .. number
  local value = string.rep(redis.sha1hex(key), 1 + number % 16)
  redis.call('DEL', key)
  if number % 50 == 0 then
    redis.call('RPUSH', key, value, number, key)
  elseif number % 20 == 0 then
    redis.call('HSET', key, 'value', value, 'number', number)
  else
    redis.call('SET', key, value)
  end
end
return 'loaded'
