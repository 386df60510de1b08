-- wrk plays the requests of a file in turn, and prints what came of them as one line of JSON.
-- Arguments: the file, whose requests stand between zero bytes, and a name for this run. A byte 1 in the only request
-- of a file stands for a key that no other request of any run has.
local requests, run, sent = {}, "", 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for text in file:read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = text
  end
  file:close()
  run = arguments[2]
  local before, after = requests[1]:match("^(.*)\1(.*)$")
  if before then
    request = function()
      sent = sent + 1
      return before .. run .. "-" .. sent .. after
    end
  end
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answered": %d, "refused": %d, "broken": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f}\n',
    summary.requests,
    errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6,
    latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3
  ))
end
