"""The proxies that are compared: their configurations, their processes, and the resources that these use."""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import time
import urllib.request

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER = "https://idp.example"
ANSWER = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "AAPL 187.42 USD, day +0.8 %, volume 51.2M"}]}},
    separators=(",", ":"),
)


def port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ports(count):
    """`count` different ports."""
    found = set()
    while len(found) < count:
        found.add(port())
    return list(found)


def token(subject="alice", number=0):
    """An access token that all proxies accept. HS256 is the cheapest algorithm for proxies that verify on every request."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {
        "iss": ISSUER, "aud": "mcp-edge", "sub": subject, "iat": 1760000000, "exp": 4102444800, "jti": f"{number:032}",
        "client_id": "claude-code", "email": "alice.liddell@corp.example", "scope": "one:read one:trade",
    }
    message = part(b'{"alg":"HS256","typ":"at+jwt"}') + b"." + part(json.dumps(claims).encode())
    return (message + b"." + part(hmac.new(SECRET.encode(), message, hashlib.sha256).digest())).decode()


def pinned(command, cpus):
    """The command on these processors. `cpus` is `None`: on any."""
    return ["taskset", "-c", cpus, *command] if cpus is not None else command


class Process:
    """A server process that was started here, and that is ended by its process id."""

    def __init__(self, name, command, folder, ready_port, cpus=None):
        self.name, self.port = name, ready_port
        command = pinned(command, cpus)
        os.makedirs(os.path.join(folder, "logs"), exist_ok=True)
        self.log = open(os.path.join(folder, "logs", f"{name}.log"), "wb")
        self.child = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", ready_port), 1).close()
                return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise SystemExit(f"{name} does not start: see {self.log.name}")
                time.sleep(0.02)

    def pids(self):
        found, new = [], [self.child.pid]
        while new:
            found += new
            tasks = [task for pid in new for task in children(pid)]
            new = [pid for pid in tasks if pid not in found]
        return found

    def cpu_seconds(self):
        """User and system time of the process and its children."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(") ", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / tick

    def resident_mib(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as status:
                found = re.search(r"VmRSS:\s+(\d+)", status.read())
            total += int(found.group(1)) if found else 0
        return total / 1024

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.log.close()


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as names:
                found += [int(name) for name in names.read().split()]
    except FileNotFoundError:
        pass
    return found


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def certificate(folder):
    """Makes a certificate of a kind that is common today (ECDSA P-256), once, and returns its file and that of its key."""
    chain, key = os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key")
    if not os.path.exists(chain):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                   "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", chain]
        subprocess.run(command, check=True, capture_output=True)
        # HAProxy wants both in one file.
        with open(chain) as one, open(key) as other:
            write(folder, "tls.pem", one.read() + other.read())
    return chain, key


def nginx(name, folder, servers, threads=1, cpus=None, ready_port=None, http=""):
    """An nginx with `servers`, without an access log."""
    text = f"""
worker_processes {threads}; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.error.log; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_body_temp_path {folder}/{name}.body;
  proxy_temp_path {folder}/{name}.proxy; fastcgi_temp_path {folder}/{name}.f; uwsgi_temp_path {folder}/{name}.u; scgi_temp_path {folder}/{name}.s;
{http}
{servers}
}}
"""
    path = write(folder, f"{name}.conf", text)
    return Process(name, ["nginx", "-p", folder, "-c", path, "-e", f"{folder}/{name}.error.log"], folder, ready_port, cpus)


def backend(folder, cpus, ports, echo_port=None):
    """The server behind every proxy: an MCP server that always gives the same answer, on each of `ports`. `/large` answers with 1
    MiB, `/sink` reads the whole request before it answers, and `/echo` is the WebSocket server at `echo_port`."""
    large = json.loads(ANSWER)
    large["result"]["content"][0]["text"] = "x" * (1 << 20)
    os.makedirs(os.path.join(folder, "www"), exist_ok=True)
    write(os.path.join(folder, "www"), "large", json.dumps(large))
    echo = f"""
    location /echo {{ proxy_pass http://127.0.0.1:{echo_port}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade; }}""" if echo_port else ""
    listens = " ".join(f"listen 127.0.0.1:{number} backlog=4096;" for number in ports)
    servers = f"""
  map $http_mcp_session_id $opened {{ "" "0b9f3c1e-3b1c-4f3a-8f0e-6d1f0c5a7b11"; default ""; }}
  server {{ {listens} default_type application/json;
    client_max_body_size 0; client_body_buffer_size 2m;
    location /large {{ root {folder}/www; error_page 405 =200 $uri; }}
    location /sink {{ proxy_pass http://127.0.0.1:{ports[0]}/; proxy_pass_request_body off; proxy_set_header Content-Length ""; }}{echo}
    location / {{ add_header Mcp-Session-Id $opened; return 200 '{ANSWER}'; }} }}"""
    return nginx("backend", folder, servers, cpus=cpus, ready_port=ports[0])


def auth_server(folder, cpus, number):
    servers = f"""
  server {{ listen 127.0.0.1:{number}; location / {{ add_header X-User alice; add_header X-Scopes "one:read"; return 200 ""; }} }}"""
    return nginx("auth-server", folder, servers, cpus=cpus, ready_port=number)


def nginx_proxy(kind, folder, backend_port, auth_port, threads, cpus):
    (listen, h2c, tls), name = ports(3), f"nginx-{kind}"
    chain, key = certificate(folder)
    cache = f"proxy_cache_path {folder}/{name}.cache keys_zone=auth:10m;" if kind == "cached" else ""
    cached = 'proxy_cache auth; proxy_cache_key "$http_authorization"; proxy_cache_valid 200 5m;' if kind == "cached" else ""
    check, location = "", ""
    if kind != "plain":
        check = "auth_request /validate; auth_request_set $user $upstream_http_x_user; proxy_set_header X-User $user;"
        location = f"""location = /validate {{ internal; proxy_pass http://auth_server; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_set_header X-Original-URI $request_uri; proxy_http_version 1.1; proxy_set_header Connection ""; {cached} }}"""
    servers = f"""
  upstream backend {{ server 127.0.0.1:{backend_port}; keepalive 256; keepalive_requests 1000000000; }}
  upstream auth_server {{ server 127.0.0.1:{auth_port}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_field {{ default upgrade; "" ""; }}
  server {{ listen 127.0.0.1:{listen} reuseport backlog=4096; listen 127.0.0.1:{h2c} http2 reuseport backlog=4096;
    listen 127.0.0.1:{tls} ssl http2 reuseport backlog=4096; ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; http2_max_requests 1000000000;
    client_max_body_size 0; {location}
    location /one/ {{ {check} proxy_pass http://backend/; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_field; }} }}"""
    process = nginx(name, folder, servers, threads, cpus, listen, cache)
    process.ports = {"http": listen, "h2c": h2c, "tls": tls}
    return process


def haproxy(kind, folder, backend_port, threads, cpus):
    listen, h2c, tls = ports(3)
    certificate(folder)
    check = ""
    if kind == "jwt":
        check = f"""
  http-request deny deny_status 401 unless {{ http_auth_bearer -m found }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_header_query('$.alg') -m str HS256 }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_payload_query('$.iss') -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify("HS256","{SECRET}") -m int 1 }}"""
    path = write(folder, f"haproxy-{kind}.cfg", f"""
global
  nbthread {threads}
  maxconn 4096
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  timeout http-keep-alive 600s
  http-reuse always
  option http-no-delay
frontend in
  bind 127.0.0.1:{listen}
  bind 127.0.0.1:{h2c} proto h2
  bind 127.0.0.1:{tls} ssl crt {folder}/tls.pem alpn h2,http/1.1{check}
  http-request replace-path /one/(.*) /\\1
  default_backend out
backend out
  server one 127.0.0.1:{backend_port}
""")
    process = Process(f"haproxy-{kind}", ["haproxy", "-db", "-f", path], folder, listen, cpus)
    process.ports = {"http": listen, "h2c": h2c, "tls": tls}
    return process


def envoy(kind, binary, folder, backend_port, threads, cpus):
    listen, tls = ports(2)
    chain, key = certificate(folder)
    secret = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    jwks = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": secret}]})
    filters = [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
    if kind == "jwt":
        filters.insert(0, {"name": "envoy.filters.http.jwt_authn", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"corp": {"issuer": ISSUER, "audiences": ["mcp-edge"], "local_jwks": {"inline_string": jwks}}},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "corp"}}]}})

    def address(number):
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "http_filters": filters, "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/one/"}, "route": {"cluster": "one", "prefix_rewrite": "/", "timeout": "0s"}}]}]}}}]
    secure = {"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [
            {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}]}}}
    config = {"static_resources": {
        "listeners": [
            {"address": address(listen), "filter_chains": [{"filters": manager}]},
            {"address": address(tls), "filter_chains": [{"filters": manager, "transport_socket": secure}]},
        ],
        "clusters": [{"name": "one", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "one", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(backend_port)}}]}]}}]}}
    path = write(folder, f"envoy-{kind}.json", json.dumps(config))
    command = [binary, "-c", path, "--concurrency", str(threads), "--disable-hot-restart", "-l", "error"]
    process = Process(f"envoy-{kind}", command, folder, listen, cpus)
    process.ports = {"http": listen, "h2c": listen, "tls": tls}
    return process


class Edge(Process):
    """mcp-edge with all features on: JWT, rules for tools, sealed sessions, metrics, access log (to a file)."""

    def __init__(self, binary, folder, backend_ports, threads, cpus, name="edge", routes=1):
        listen, tls, self.admin = ports(3)
        self.ports = {"http": listen, "h2c": listen, "tls": tls}
        certificate(folder)
        write(folder, "secret", SECRET)
        write(folder, "session.key", "6" * 64)
        endpoints = ", ".join(f"{{address: '127.0.0.1:{number}'}}" for number in backend_ports)
        others = "\n".join(
            f"  - {{path: /team-{number}/, upstream: one, protocol: mcp, auth: {{providers: [corp], scopes: ['one:read']}}}}"
            for number in range(1, routes)
        )
        path = write(folder, f"{name}.yaml", f"""
server: {{threads: {threads}}}
listeners:
  - {{address: '127.0.0.1:{listen}', hosts: [127.0.0.1]}}
  - {{address: '127.0.0.1:{tls}', hosts: [127.0.0.1], tls: {{certificate: tls.crt, key: tls.key}}}}
admin: {{address: '127.0.0.1:{self.admin}'}}
sessions: {{keys: [{{file: session.key}}]}}
auth: {{providers: {{corp: {{jwt: {{issuer: '{ISSUER}', audiences: [mcp-edge], algorithms: [HS256], secret: {{file: secret}}}}}}}}}}
upstreams: {{one: {{endpoints: [{endpoints}], balance: least_request, timeouts: {{keepalive: 60s}}}}}}
routes:
  - path: /one/
    upstream: one
    protocol: mcp
    auth: {{providers: [corp], scopes: ['one:read']}}
    tools: [{{match: 'train_*', scopes: ['one:train']}}, {{match: 'get_*'}}, {{match: place_order, scopes: ['one:trade']}}]
  - {{path: /opaque/, upstream: one, upgrade: [websocket], body_bytes: 1GiB, auth: {{providers: [corp], scopes: ['one:read']}}}}
{others}
""")
        super().__init__(name, [binary, "run", "--config", path], folder, listen, cpus)

    def session(self):
        """Opens an MCP session, and returns its sealed id."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "compare", "version": "1"}}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/one/mcp", json.dumps(body).encode(),
            {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": f"Bearer {token()}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers["Mcp-Session-Id"]
