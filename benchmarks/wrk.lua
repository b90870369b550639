-- What wrk sends and how it sums up: wrk -s wrk.lua URL -- BODY_BYTES KEEP_ALIVE
-- There is no request() and no response() here: either would cost wrk a call of Lua for each request.

function init(args)
   local body_bytes = tonumber(args[1] or "0")
   if body_bytes > 0 then
      wrk.method = "POST"
      wrk.body = string.rep("x", body_bytes)
      wrk.headers["Content-Type"] = "application/octet-stream"
   end
   if args[2] == "close" then
      wrk.headers["Connection"] = "close"
   end
end

-- One line of JSON. Durations are microseconds; errors.status counts answers other than 2xx and 3xx.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "duration_us": %d, "failed": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d}\n',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
