"""Load: wrk for the highest throughput, `mcp-fleet load` for a steady rate, and the results of both."""

import json
import re
import subprocess
import time

from proxies import pinned, token

def call(symbol):
    """A call of a tool."""
    arguments = {"symbol": symbol, "from": "2026-01-01", "to": "2026-02-01", "span": "day"}
    params = {"name": "get_stock_aggregates", "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, separators=(",", ":"))


BODY = call("AAPL")


def fields(session=None, bearer=None):
    """The header fields of an MCP client."""
    named = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
        "User-Agent": "claude-code/2.1.0",
        "Authorization": f"Bearer {bearer or token()}",
    }
    if session:
        named["Mcp-Session-Id"] = session
    return named


def options(option, headers):
    """The header fields as options of a command."""
    return [part for key, value in headers.items() for part in (option, f"{key}: {value}")]


DIFFERENT = 100_000


def script(folder, name, session=None, tokens=None, more=None, body=BODY):
    """Writes the wrk script for the requests. Without `tokens`, all requests are the same. `tokens` is a file with one token
    in each line. Then the script sends `DIFFERENT` different requests, even if there are few tokens: the requests that wrk reads take
    room in the caches that it shares with the proxy, and this effect must not depend on the number of tokens. Each request
    has its own `traceparent`, so that no connection sees the same head twice. `more`: further header fields."""
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(body)}"]
    lines += [f"wrk.headers[{json.dumps(key)}] = {json.dumps(value)}" for key, value in {**fields(session), **(more or {})}.items()]
    if tokens:
        lines += [
            "local requests, next_one = {}, 0",
            "function init(args)",
            "  local tokens, body = {}, wrk.body",
            f"  for token in io.lines({json.dumps(tokens)}) do tokens[#tokens + 1] = token end",
            f"  for number = 1, {DIFFERENT} do",
            '    wrk.headers["Authorization"] = "Bearer " .. tokens[number % #tokens + 1]',
            '    wrk.headers["Traceparent"] = string.format("00-%032x-%016x-01", number, number)',
            f"    wrk.body = body:gsub('\"id\":1,', '\"id\":' .. ({DIFFERENT} + number) .. ',', 1)",
            "    requests[number] = wrk.format()",
            "  end",
            "end",
            "function request() next_one = next_one % #requests + 1 return requests[next_one] end",
        ]
    path = f"{folder}/{name}.lua"
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}


def wrk(url, lua, seconds, connections, threads, cpus):
    command = ["wrk", "--latency", "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "-s", lua, url]
    text = subprocess.run(pinned(command, cpus), check=True, capture_output=True, text=True).stdout

    def latency(percentile):
        value, unit = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s|m)", text).groups()
        return float(value) * UNITS[unit]

    failed = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    failed += sum(sum(map(int, found)) for found in re.findall(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text))
    requests, took = re.search(r"(\d+) requests in ([\d.]+)s", text).groups()
    return {"requests": int(requests), "per_second": int(requests) / float(took), "p50_us": latency(50), "p99_us": latency(99), "failed": failed}


def h2load(url, body, seconds, connections, streams, cpus, headers):
    """HTTP/2 at the highest throughput."""
    command = ["h2load", "-D", str(seconds), "-c", str(connections), "-m", str(streams), "-t", "1", "-d", body]
    command += options("-H", headers)
    text = subprocess.run(pinned([*command, url], cpus), check=True, capture_output=True, text=True).stdout
    took, per_second = re.search(r"finished in ([\d.]+)s, ([\d.]+) req/s", text).groups()
    done, failed, errored = re.search(r"(\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored", text).groups()
    return {"requests": int(done), "per_second": float(per_second), "failed": int(failed) + int(errored)}


def chat(fleet, url, seconds, connections, cpus, headers):
    """WebSocket messages there and back."""
    command = [fleet, "chat", "--url", url, "--connections", str(connections), "--seconds", str(seconds)]
    command += options("--header", headers)
    seen = json.loads(subprocess.run(pinned(command, cpus), check=True, capture_output=True, text=True).stdout)
    return {**seen, "requests": seen["count"], "per_second": seen["count"] / seconds, "failed": 0}


def steady(fleet, url, rate, connections, seconds, session, cpus):
    """Latency at a steady rate. With `rate` 0, one request follows the other."""
    command = [fleet, "load", "--url", url, "--rate", str(rate), "--connections", str(connections), "--seconds", str(seconds), "--body", BODY]
    command += options("--header", fields(session))
    return json.loads(subprocess.run(pinned(command, cpus), check=True, capture_output=True, text=True).stdout)


def streams(fleet, url, count, seconds, session, cpus, used):
    """Delays of events over many open streams; `used` returns the CPU seconds that the target has used so far."""
    command = [fleet, "listen", "--url", url, "--count", str(count), "--seconds", str(seconds)]
    command += options("--header", {key: value for key, value in fields(session).items() if key != "Content-Type"})
    with subprocess.Popen(pinned(command, cpus), stdout=subprocess.PIPE, text=True) as listener:
        listener.stdout.readline()
        begun, before = time.monotonic(), used()
        time.sleep(seconds)
        spent, span = used() - before, time.monotonic() - begun
        result = json.loads(listener.stdout.readline())
    return {**result, "cpu_share": spent / span}
