-- Sends the request targets of a file in turn, and prints the run's totals as one JSON line.
-- Usage: wrk ... -s wrk.lua http://127.0.0.1:PORT -- FILE [PAUSE]
-- PAUSE: milliseconds from each reply to the next request on the same connection.
-- FILE: the values of the Authorization and the Connection header, then one request target a line.
-- An empty Connection value leaves that header out.

local prepared = {}
local position = 0

function init(args)
  local lines = assert(io.open(args[1])):lines()
  local headers = { ["Authorization"] = lines() }
  local connection = lines()
  if connection ~= "" then
    headers["Connection"] = connection
  end
  for target in lines do
    prepared[#prepared + 1] = wrk.format("GET", target, headers)
  end
  local pause = tonumber(args[2])
  if pause then
    delay = function() return pause end
  end
end

function request()
  position = position % #prepared + 1
  return prepared[position]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'totals {"requests": %d, "bad_status": %d, "socket_errors": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
