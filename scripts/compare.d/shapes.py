"""The other ways in which clients come: over TLS, over HTTP/2, with a connection for each request, with large messages, and with
WebSockets."""

import json

import load
import proxies

# What a row stands for: how the load is made, on which port, and what else is different.
SHAPES = {
    "TLS, kept connections": {"port": "tls"},
    "HTTP/2 over TLS": {"tool": "h2load", "port": "tls"},
    "HTTP/2, cleartext": {"tool": "h2load", "port": "h2c"},
    "a connection for each request": {"closes": True},
    "a connection with TLS for each request": {"port": "tls", "closes": True},
    "answers of 1 MiB": {"path": "large"},
    "requests of 1 MiB": {"path": "sink", "body": "x" * (1 << 20)},
    "WebSocket messages": {"tool": "chat", "path": "echo"},
}

H2_CONNECTIONS, H2_STREAMS = 8, 4
# Large messages go over fewer connections, so that they fit into the caches of the processor.
LARGE_CONNECTIONS = 8


class Shaped:
    """A target that gets its load in one shape."""

    def __init__(self, target, shape, work, connections, fleet):
        settings = SHAPES[shape]
        self.target, self.fleet, self.tool = target, fleet, settings.get("tool", "wrk")
        port = settings.get("port", "http")
        scheme = "https" if port == "tls" else "http"
        path = target.path.replace("/mcp", "/" + settings.get("path", "mcp"))
        self.connections = LARGE_CONNECTIONS if "path" in settings else connections
        self.url = f"{scheme}://127.0.0.1:{target.process.ports[port]}{path}"
        self.name, self.rounds = target.name, []
        more = {"Connection": "close"} if settings.get("closes") else {}
        name = f"{target.name}-{shape}".replace(" ", "-").replace("/", "-").replace(",", "")
        text = load.call(settings["body"]) if "body" in settings else load.BODY
        self.lua = load.script(work, name, target.session, None, more, text)
        self.body = proxies.write(work, "body.json", load.BODY)

    def run(self, seconds, cpus):
        process = self.target.process
        before = process.cpu_seconds()
        headers = load.fields(self.target.session)
        if self.tool == "wrk":
            seen = load.wrk(self.url, self.lua, seconds, self.connections, 1, cpus)
        elif self.tool == "chat":
            seen = load.chat(self.fleet, self.url, seconds, self.connections, cpus, headers)
        else:
            seen = load.h2load(self.url, self.body, seconds, H2_CONNECTIONS, H2_STREAMS, cpus, headers)
        seen["cpu_us"] = (process.cpu_seconds() - before) * 1e6 / max(seen["requests"], 1)
        return seen


def can(target, shape):
    """Only routes without a protocol carry WebSockets."""
    return shape != "WebSocket messages" or "everything" not in target.name
