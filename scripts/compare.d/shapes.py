"""The other ways in which clients come: over TLS, over HTTP/2, and with a connection for each request."""

import load
import proxies

# What a row stands for: how the load is made, and on which port.
SHAPES = {
    "TLS, kept connections": ("wrk", "tls", False),
    "HTTP/2 over TLS": ("h2load", "tls", False),
    "HTTP/2, cleartext": ("h2load", "h2c", False),
    "a connection for each request": ("wrk", "http", True),
    "a connection with TLS for each request": ("wrk", "tls", True),
}

H2_CONNECTIONS, H2_STREAMS = 8, 4


class Shaped:
    """A target that gets its load in one shape."""

    def __init__(self, target, shape, work, connections):
        tool, port, closes = SHAPES[shape]
        self.target, self.tool, self.connections = target, tool, connections
        scheme = "https" if port == "tls" else "http"
        self.url = f"{scheme}://127.0.0.1:{target.process.ports[port]}{target.path}"
        self.name, self.rounds = target.name, []
        more = {"Connection": "close"} if closes else {}
        name = f"{target.name}-{shape}".replace(" ", "-").replace("/", "-").replace(",", "")
        self.lua = load.script(work, name, target.session, None, more)
        self.body = proxies.write(work, "body.json", load.BODY)

    def run(self, seconds, cpus):
        process = self.target.process
        before = process.cpu_seconds()
        if self.tool == "wrk":
            seen = load.wrk(self.url, self.lua, seconds, self.connections, 1, cpus)
        else:
            headers = load.fields(self.target.session)
            seen = load.h2load(self.url, self.body, seconds, H2_CONNECTIONS, H2_STREAMS, cpus, headers)
        seen["cpu_us"] = (process.cpu_seconds() - before) * 1e6 / max(seen["requests"], 1)
        return seen
