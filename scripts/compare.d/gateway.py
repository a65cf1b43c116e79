"""The table `gateway` of `make compare`: what a call and a list cost through the gateway of the edge, beside a path route, no proxy at
all, the crate mcp-proxy, and the proxy of FastMCP."""

import json
import os
import statistics
import sys
import time
import urllib.request

import load
import proxies

SERVERS, TOOLS = 50, 40
# The other gateways are slow to answer, so they get fewer requests.
MANY, FEW = (50, 5), (2, 2)


def tool(number):
    """A tool of the size that tools have."""
    schema = {"type": "object", "properties": {
        name: {"type": "string", "description": f"The {name} of the thing that the tool is about."} for name in ("symbol", "from", "to")}}
    return {"name": f"get_thing_{number}", "title": f"Thing {number}", "description": f"Gets thing {number}, with all that belongs to it, as of now.",
            "inputSchema": schema}


def servers_behind(folder, port):
    """An MCP server at `/call/`, whose every answer is that of a tool, and one at each `/list/N/`, whose every answer is a list of its
    tools. Requests without a session are taken for `initialize`. nginx sends files with the id of the request in them."""
    hello = {"jsonrpc": "2.0", "id": "@", "result": {
        "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "constant", "version": "1"}}}
    tools = {"jsonrpc": "2.0", "id": "@", "result": {"tools": [tool(index) for index in range(TOOLS)]}}
    os.makedirs(f"{folder}/www", exist_ok=True)
    for name, answer in (("hello", hello), ("tools", tools)):
        proxies.write(f"{folder}/www", name, json.dumps(answer))
    # Variables of the body are there once a request is proxied, so nginx asks itself for the files.
    file = f"""proxy_method GET; proxy_set_body ""; proxy_http_version 1.1; proxy_set_header Connection "";
    sub_filter '"@"' $message_id; sub_filter_types application/json; proxy_pass http://files;"""
    text = f"""
  map $http_mcp_session_id $opened {{ "" "0b9f3c1e-3b1c-4f3a-8f0e-6d1f0c5a7b11"; default ""; }}
  map $request_body $message_id {{ default null; '~"id": ?(?<found>"[^"]*"|[0-9]+)' $found; }}
  upstream files {{ server 127.0.0.1:{port}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; default_type application/json; client_body_buffer_size 2m;
    location /files/ {{ alias {folder}/www/; }}
    location /hello {{ add_header Mcp-Session-Id $opened; rewrite ^ /files/hello break; {file} }}
    location /call/ {{ if ($opened) {{ rewrite ^ /hello last; }} return 200 '{proxies.ANSWER}'; }}
    location /list/ {{ if ($opened) {{ rewrite ^ /hello last; }} rewrite ^ /files/tools break; {file} }}
  }}"""
    return proxies.nginx("servers", folder, text, ready_port=port)


class Gateway(proxies.Process):
    """The edge with everything on: `/call/` as a path route, `/one` as a gateway with that server, `/all` as one with all lists."""

    def __init__(self, binary, folder, behind, cpus):
        listen, self.admin = proxies.ports(2)
        proxies.write(folder, "secret", proxies.SECRET)
        proxies.write(folder, "session.key", "6" * 64)
        rules = "tools: [{match: 'train_*', scopes: ['one:train']}, {match: 'get_*'}]"
        routes = "\n".join(
            f"  - {{path: /{name}/, upstream: all, protocol: mcp, rewrite: {{strip_prefix: false}}, auth: {{providers: [corp], scopes: ['one:read']}}, {rules}}}"
            for name in ["call"] + [f"list/{number}" for number in range(SERVERS)])
        lists = ", ".join(f"{{route: list/{number}, prefix: s{number}}}" for number in range(SERVERS))
        path = proxies.write(folder, "gateway.yaml", f"""
server: {{threads: 1}}
listeners: [{{address: '127.0.0.1:{listen}', hosts: [127.0.0.1]}}]
admin: {{address: '127.0.0.1:{self.admin}'}}
sessions: {{keys: [{{file: session.key}}]}}
auth: {{providers: {{corp: {{jwt: {{issuer: '{proxies.ISSUER}', audiences: [mcp-edge], algorithms: [HS256], secret: {{file: secret}}}}}}}}}}
upstreams: {{all: {{endpoints: [{{address: '127.0.0.1:{behind}'}}], timeouts: {{keepalive: 60s}}}}}}
routes:
{routes}
  - {{path: /one, auth: {{providers: [corp]}}, gateway: {{servers: [{{route: call, prefix: call}}]}}}}
  - {{path: /all, auth: {{providers: [corp]}}, gateway: {{servers: [{lists}]}}}}
""")
        super().__init__("gateway", [binary, "run", "--config", path], folder, listen, cpus)


def post(url, message, session=None, bearer=None):
    """Sends a message, and gives the answer with its head and the time that it took."""
    headers = load.fields(session, bearer)
    request = urllib.request.Request(url, json.dumps({"jsonrpc": "2.0", **message}).encode(), headers)
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read()
        return body, answer.headers, time.perf_counter() - begun


def opened(url, bearer=None):
    """A session at `url`."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "compare", "version": "1"}}
    _, head, _ = post(url, {"id": 0, "method": "initialize", "params": params}, None, bearer)
    session = head["Mcp-Session-Id"]
    post(url, {"method": "notifications/initialized"}, session, bearer)
    return session


def lists(url, callers, again):
    """The times of a list for callers that the proxy does not know yet, and for those that ask again, in ms; and its size."""
    cold, cached, size = [], [], 0
    for number in range(callers):
        bearer = proxies.token(f"caller-{number}-{time.time()}")
        session = opened(url, bearer)
        message = {"id": 1, "method": "tools/list", "params": {}}
        body, _, took = post(url, message, session, bearer)
        cold.append(took * 1e3)
        for _ in range(again):
            body, _, took = post(url, message, session, bearer)
            cached.append(took * 1e3)
        text = body.decode()
        data = next((line[6:] for line in text.splitlines() if line.startswith("data: ")), text)
        size = len(json.loads(data)["result"]["tools"])
        # mcp-proxy adds tools of its own.
        assert SERVERS * TOOLS <= size < SERVERS * TOOLS + 10, f"{url} lists {size} tools"
    return cold, cached, size


def fastmcp(python, work, behind, cpus):
    """FastMCP's proxy in front of all lists, run by `python`."""
    listen = proxies.port()
    script = proxies.write(work, "fastmcp_proxy.py", f"""
from fastmcp.server import create_proxy
servers = {{f"s{{number}}": {{"url": f"http://127.0.0.1:{behind}/list/{{number}}/mcp", "transport": "http"}} for number in range({SERVERS})}}
create_proxy({{"mcpServers": servers}}).run(transport="http", host="127.0.0.1", port={listen}, path="/mcp", show_banner=False)
""")
    return proxies.Process("fastmcp", [python, script], work, listen, cpus)


def mcp_proxy(binary, work, behind, cpus):
    """The crate mcp-proxy in front of all lists."""
    listen = proxies.port()
    backends = "".join(
        f'[[backends]]\nname = "s{number}"\ntransport = "http"\nurl = "http://127.0.0.1:{behind}/list/{number}/mcp"\n' for number in range(SERVERS))
    config = proxies.write(work, "mcp-proxy.toml", f'[proxy]\nname = "compare"\n[proxy.listen]\nhost = "127.0.0.1"\nport = {listen}\n[observability]\nlog_level = "error"\n{backends}')
    return proxies.Process("mcp-proxy", [binary, "--config", config], work, listen, cpus)


def measure(options, work, cpus, others, table, spread, against):
    """Measures, prints the tables and gives the figures."""
    print("### The gateway: a call of a tool, one thread\n")
    behind = proxies.port()
    backend = servers_behind(work, behind)
    edge = Gateway(options.edge, work, behind, cpus)
    others_started = []
    result = {}
    try:
        base = f"http://127.0.0.1:{edge.port}"
        targets = {}
        for name, url, path, called in [
            ("direct", f"http://127.0.0.1:{behind}", "/call/mcp", "get_stock_aggregates"),
            ("path route", base, "/call/mcp", "get_stock_aggregates"),
            ("gateway", base, "/one", "call_get_stock_aggregates"),
        ]:
            session = "direct" if name == "direct" else opened(url + path)
            body = load.BODY.replace("get_stock_aggregates", called)
            answer, _, _ = post(url + path, json.loads(body), None if name == "direct" else session)
            assert b'"result"' in answer, f"{name} answers {answer}"
            lua = load.script(work, name.replace(" ", "-"), session, body=body)
            targets[name] = (url + path, lua, None if name == "direct" else edge)
            result[name] = {"busy": [], "alone": []}
        for number in range(options.rounds + 1):
            for name, (url, lua, process) in targets.items():
                for kind, connections in (("busy", 32), ("alone", 1)):
                    before = process.cpu_seconds() if process else 0
                    seen = load.wrk(url, lua, options.seconds if number else 1, connections, 1, others)
                    if process:
                        seen["cpu_us"] = (process.cpu_seconds() - before) * 1e6 / seen["requests"]
                    if number:
                        result[name][kind].append(seen)
            print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)

        def column(name, kind, key):
            return [seen[key] for seen in result[name][kind] if key in seen]

        rows = []
        for name in targets:
            added = statistics.median(column(name, "alone", "p50_us")) - statistics.median(column("direct", "alone", "p50_us"))
            rows.append([
                name, spread(column(name, "busy", "per_second"), 0), spread(column(name, "busy", "cpu_us")),
                against(result[name]["busy"], result["path route"]["busy"]), spread(column(name, "alone", "p50_us"), 0),
                f"+{added:.0f}", str(sum(column(name, "busy", "failed") + column(name, "alone", "failed"))),
            ])
        table(["", "requests/s", "CPU us/request", "x path route", "1 connection p50 us", "added us", "failed"], rows)

        print(f"### The gateway: a list of {SERVERS} servers with {TOOLS} tools each\n")
        rows = []
        gateways = [("mcp-edge", "/all", edge, MANY)]
        if options.mcp_proxy:
            others_started.append(mcp_proxy(options.mcp_proxy, work, behind, cpus))
            gateways.append(("mcp-proxy", "/", others_started[-1], FEW))
        if options.fastmcp:
            others_started.append(fastmcp(options.fastmcp, work, behind, cpus))
            gateways.append(("FastMCP", "/mcp", others_started[-1], FEW))
        for name, path, proxy, times in gateways:
            cold, cached, size = lists(f"http://127.0.0.1:{proxy.port}{path}", *times)
            result[name] = {"cold_ms": cold, "cached_ms": cached, "tools": size}
            rows.append([name, str(size), spread(cold), spread(cached, 2)])
        table(["", "tools", "new caller, ms", "again, ms"], rows)
        sessions = 2_000
        # The first ones do not count: after the lists, memory is given back.
        for _ in ("first", "counted"):
            before = edge.resident_mib()
            for _ in range(sessions):
                opened(base + "/one")
        result["kib_per_session"] = (edge.resident_mib() - before) * 1024 / sessions
        print(f"An open session takes {result['kib_per_session']:.1f} KiB of the edge's memory ({sessions} sessions).\n")
        return result
    finally:
        for proxy in others_started:
            proxy.stop()
        edge.stop()
        backend.stop()
