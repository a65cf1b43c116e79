"""The edge, the servers behind it, and the configuration."""

import asyncio
import json
import os

from child import CannotStart, Child, port
from client import Broken, Connection

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER = "https://idp.example"
# The last replica of the pool comes and goes with reloads.
REPLICAS = 3


class Fleet:
    """Everything that runs, and the record of what was done to it."""

    def __init__(self, edge, fleet, work):
        # The edge watches the folder of its configuration. Logs, which change all the time, are elsewhere.
        self.folder = os.path.join(work, "config")
        self.path = os.path.join(self.folder, "edge.yaml")
        self.binary, self.port, self.admin_port, self.origin_port = edge, port(), port(), port()
        self.edge = Child("edge", [edge, "run", "--config", self.path], work, self.port, piped=True)
        serve = [fleet, "serve", "--until-stdin-closes"]
        self.replicas = []
        for number in range(REPLICAS):
            # A process numbers its replicas. So this one gets `number` others first, and its own is named `fininfo-NUMBER`.
            others, own = ["--server=fininfo=127.0.0.1:0"] * number, port()
            self.replicas.append(Child(f"replica-{number}", [*serve, *others, f"--server=fininfo=127.0.0.1:{own}"], work, own))
        steady, echo = port(), port()
        self.steady = Child("steady", [*serve, f"--server=everything=127.0.0.1:{steady}"], work, steady)
        self.echo = Child("echo", [fleet, "echo", "--port", str(echo)], work, echo)
        # Which endpoint was killed when, and from when until when an endpoint was not in the configuration.
        self.kills, self.removals = [], []
        # What the configuration says: whether it has the last replica and the route `/extra/`, and the value of a header field.
        self.spare, self.extra, self.stamp = True, True, 1
        # What the edge has for certain. `known_extra` is None while it may have the old or the new configuration.
        self.known_extra, self.least_stamp = True, 1

    def endpoint(self, number):
        return f"127.0.0.1:{self.replicas[number].ready_port}"

    def lost(self, endpoint, begun, ended):
        """Why a session that `endpoint` opened after `begun` may be unknown at `ended`. None: it may not."""
        if any(killed == endpoint and begun <= at <= ended for killed, at in self.kills):
            return "a session whose replica was killed"
        if any(removed == endpoint and since <= ended and begun <= until for removed, since, until in self.removals):
            return "a session whose endpoint was removed"
        return None

    def text(self):
        """The configuration as it should be now."""
        endpoints = ", ".join(f"{{address: '{self.endpoint(number)}'}}" for number in range(REPLICAS if self.spare else REPLICAS - 1))
        extra = "  - {path: /extra/, upstream: origin, auth: none}" if self.extra else ""
        mcp = f"protocol: mcp, host: endpoint, auth: {{providers: [corp], scopes: [soak]}}, sse_keepalive: {1 + self.stamp % 2}s"
        tools = f"tools: [{{match: place_order, deny: true}}, {{match: train_*, timeout: {20 + self.stamp % 5}s}}, {{match: '*'}}]"
        return f"""\
listeners: [{{address: '127.0.0.1:{self.port}', hosts: ['*.soak.test']}}]
admin: {{address: '127.0.0.1:{self.admin_port}'}}
limits: {{body_bytes: 2MiB}}
sessions: {{keys: [{{file: session.key}}]}}
auth: {{providers: {{corp: {{jwt: {{issuer: '{ISSUER}', audiences: [mcp-edge], algorithms: [HS256], secret: {{file: secret}}}}}}}}}}
upstreams:
  # A replica that was killed refuses connections at once. A busy machine must not make the others unhealthy.
  pool: {{endpoints: [{endpoints}], health: {{mcp: {{path: /mcp}}, interval: 1s, timeout: 10s}}}}
  steady: {{endpoints: [{{address: '127.0.0.1:{self.steady.ready_port}'}}]}}
  echo: {{endpoints: [{{address: '127.0.0.1:{self.echo.ready_port}'}}]}}
  origin: {{endpoints: [{{address: '127.0.0.1:{self.origin_port}'}}]}}
routes:
  - {{path: /pool/, upstream: pool, {tools}, {mcp}}}
  - {{path: /resume/, upstream: pool, sessions: {{resume: true}}, {tools}, {mcp}}}
  - {{path: /steady/, upstream: steady, {mcp}}}
  - {{path: /raw/, upstream: pool, host: endpoint, auth: {{providers: [corp]}}}}
  - {{path: /opaque/, upstream: origin, auth: {{providers: [corp]}}, response_headers: {{set: {{x-stamp: '{self.stamp}'}}}}}}
  - {{path: /open/, upstream: origin, auth: none}}
  - {{path: /echo/, upstream: echo, upgrade: [websocket], auth: none}}
{extra}
"""

    def broken_texts(self):
        """Configurations that do not load."""
        good = self.text()
        return [good + "routes: [", good.replace("upstream: origin", "upstream: nowhere"), good + "unknown_key: 1\n",
                good.replace("interval: 1s", "interval: soon"), "", good.replace("session.key", "no-such-file")]

    async def check(self, text):
        """What `mcp-edge check` says of a configuration: its exit code and its output."""
        self.write("edge.yaml", text)
        process = await asyncio.create_subprocess_exec(
            self.binary, "check", "--config", self.path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(text)

    async def start(self):
        os.makedirs(self.folder, exist_ok=True)
        self.write("secret", SECRET)
        self.write("session.key", "6" * 64)
        for text in [*self.broken_texts(), self.text()]:
            code, output = await self.check(text)
            if (code == 0) != (text == self.text()):
                raise CannotStart(f"`mcp-edge check` ends with {code}:\n{output}\nof this configuration:\n{text}")
        for child in [*self.replicas, self.steady, self.echo, self.edge]:
            await child.start()

    async def stop(self):
        for child in [self.edge, *self.replicas, self.steady, self.echo]:
            await child.stop()

    async def admin(self, method, path):
        """A request to the admin listener: the status and the body of the answer."""
        connection = Connection(self.admin_port, host="127.0.0.1")
        try:
            answer = await connection.send(method, path, {"Connection": "close"}, b"" if method == "POST" else None)
            return answer.status, await answer.body()
        finally:
            connection.close()

    async def status(self):
        status, body = await self.admin("GET", "/status")
        if status != 200:
            raise Broken(f"GET /status: {status} {body[:300]!r}")
        return json.loads(body)
