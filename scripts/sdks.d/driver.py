"""`scripts/sdks`: runs every client against every server, directly and through the edge, and prints the results as a table.

A server has two replicas, which all clients use at the same time. The clients wait for each other before a replica is killed
or started again. A direct client uses the first replica only.
"""

import argparse
import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import time

from issuer import Issuer

# scripts/sdks has copied this file and all others to the packages that it has installed.
WORK = os.path.dirname(os.path.abspath(__file__))
LOGS = os.path.join(WORK, "logs")
# Seconds: for everything, for one client, for all clients of a server until they wait, and for a process to listen.
ALL, CLIENT, WAIT, START = 300, 60, 45, 30
STEPS = ["connect", "list", "call", "progress", "elicitation", "tool error", "denied", "deadline", "long call", "step-up"]
STEPS += ["restart", "first killed", "second killed", "close"]
# Steps that only the edge has: its policy, and its choice of another replica.
EDGE_ONLY = {"denied", "deadline", "long call", "step-up", "first killed", "second killed"}
# A host name under which clients may know the edge. Servers on loopback refuse it, if they get it.
PUBLIC_NAME = "edge.example"

# What is known to fail through the edge, by server, revision and step. It is printed, but only `--strict` counts it as a
# failure.
KNOWN = {
    ("mcp1", "2025-11-25", "long call"): (
        "up to 1.28 the SDK sends progress notifications on the session's GET stream, so they do not start the tool's "
        "`timeout` again"
    ),
    ("mcp2", "2026-07-28", "elicitation"): (
        "the SDK seals `requestState` with a key of the process, and the answer may reach another replica. Servers with "
        "replicas have to set `request_state_security`"
    ),
}


def pinned(file, package):
    """The version of a package as its requirements file or package.json has it."""
    with open(os.path.join(WORK, file)) as lines:
        if file == "package.json":
            return json.load(lines)["dependencies"][f"@modelcontextprotocol/{package}"]
        return next(line.split("==")[1].strip() for line in lines if line.startswith(f"{package}=="))


SERVERS = {
    "mcp1": f"Python SDK {pinned('mcp1.txt', 'mcp')}",
    "mcp2": f"Python SDK {pinned('mcp2.txt', 'mcp')}",
    "fastmcp": f"FastMCP {pinned('mcp2.txt', 'fastmcp')}",
    "sdk1": f"TypeScript SDK {pinned('package.json', 'sdk')}",
    "sdk2": f"TypeScript SDK {pinned('package.json', 'server')}",
}
CLIENTS = {
    "mcp1": f"Python SDK {pinned('mcp1.txt', 'mcp')}",
    "mcp2": f"Python SDK {pinned('mcp2.txt', 'mcp')}",
    "sdk1": f"TypeScript SDK {pinned('package.json', 'sdk')}",
    "sdk2": f"TypeScript SDK {pinned('package.json', 'client')}",
    "sdk2-auto": f"TypeScript SDK {pinned('package.json', 'client')}, `auto`",
}


class Failure(Exception):
    """The tests cannot be run."""


def command(file):
    """The command that runs a client or server, without its arguments."""
    if file.endswith(".mjs"):
        return ["node", os.path.join(WORK, file)]
    venv = "mcp1" if file == "server_mcp1.py" else "mcp2"
    return [os.path.join(WORK, venv, "bin", "python"), os.path.join(WORK, file)]


def server_command(server):
    return command(f"server_{server}.mjs" if server.startswith("sdk") else f"server_{server}.py")


def client_command(client):
    if client == "mcp1":
        return [os.path.join(WORK, "mcp1", "bin", "python"), os.path.join(WORK, "client.py")]
    return command("client.mjs" if client.startswith("sdk") else "client.py")


def free_ports(count):
    """Ports that are free now. They are all held at the same time, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


class Process:
    """A process with its output in a log. At the end of this script, those that are still running are killed."""

    running = set()

    def __init__(self, log, *arguments):
        self.log, self.arguments, self.process = os.path.join(LOGS, f"{log}.log"), arguments, None

    async def start(self, **pipes):
        with open(self.log, "ab") as log:
            pipes = {"stdin": asyncio.subprocess.DEVNULL, "stdout": log} | pipes
            self.process = await asyncio.create_subprocess_exec(*self.arguments, stderr=log, limit=1 << 20, **pipes)
        Process.running.add(self)
        return self

    async def kill(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        Process.running.discard(self)

    async def listens(self, port):
        """Waits until the process accepts connections."""
        end = time.monotonic() + START
        while True:
            if self.process.returncode is not None:
                raise Failure(f"`{' '.join(self.arguments)}` has ended; {self.log} says why")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise Failure(f"`{' '.join(self.arguments)}` does not listen after {START} s; its log is {self.log}")
                await asyncio.sleep(0.05)


class Replica(Process):
    def __init__(self, server, number, port):
        super().__init__(f"server-{server}-{number}", *server_command(server), str(port))
        self.port = port

    async def begin(self):
        await self.start()
        await self.listens(self.port)


class Client(Process):
    """A client, what its steps have shown, and the step before which it waits."""

    def __init__(self, name, server, mode, url):
        super().__init__(f"client-{name}-{server}-{mode}", *client_command(name), name, mode, url)
        self.name, self.mode, self.results, self.failure = name, mode, {}, None
        self.next, self.waits = None, asyncio.Event()

    async def run(self):
        pipe = asyncio.subprocess.PIPE
        await self.start(stdin=pipe, stdout=pipe)
        try:
            await asyncio.wait_for(self.read(), CLIENT)
        except asyncio.TimeoutError:
            self.failure = f"not finished after {CLIENT} s"
        finally:
            await self.kill()
            self.next = None
            self.waits.set()

    async def read(self):
        async for line in self.process.stdout:
            message = json.loads(line)
            if "wait" in message:
                self.next = message["wait"]
                self.waits.set()
            else:
                self.results[message["step"]] = message
        if await self.process.wait() != 0:
            self.failure = f"ended with status {self.process.returncode}; {self.log} says why"

    def go_on(self):
        self.waits.clear()
        self.process.stdin.write(b"\n")


async def run_server(server, replicas, edge_url):
    """Runs all clients against one server, and returns them."""
    first, second = replicas
    clients = [Client(name, server, "direct", f"http://127.0.0.1:{first.port}/mcp") for name in CLIENTS]
    clients += [Client(name, server, "edge", edge_url) for name in CLIENTS]
    runs = [asyncio.create_task(client.run()) for client in clients]

    async def change(step, *actions):
        """When all clients wait for this step or have ended: does the actions, and lets the clients go on."""
        waiting = [asyncio.create_task(client.waits.wait()) for client in clients]
        # A client that is late misses the step, and the table shows that.
        await asyncio.wait(waiting, timeout=WAIT)
        for task in waiting:
            task.cancel()
        for action in actions:
            await action()
        for client in clients:
            if client.next == step:
                client.go_on()

    await change("restart", first.kill, second.kill, first.begin, second.begin)
    await change("first killed", first.kill)
    await change("second killed", first.begin, second.kill)
    await asyncio.gather(*runs)
    await second.begin()
    return clients


def write_config(issuer, replicas, port, admin):
    routes, upstreams = [], []
    for server, pair in replicas.items():
        endpoints = ", ".join(f"{{address: 127.0.0.1:{replica.port}}}" for replica in pair)
        # Replicas take turns, so that requests without a session reach both.
        upstreams.append(f"  {server}: {{balance: round_robin, endpoints: [{endpoints}]}}\n")
        routes.append(
            f"""\
  - path: /{server}/
    upstream: {server}
    protocol: mcp
    auth: {{providers: [issuer], scopes: [use], public_url: 'http://127.0.0.1:{port}/{server}/mcp'}}
    tools:
      - {{match: secret, deny: true}}
      - {{match: admin, scopes: [admin]}}
      - {{match: slow, timeout: 1s}}
      - {{match: progress, timeout: 4s}}
      - {{match: "*"}}
"""
        )
    with open(os.path.join(WORK, "secret"), "w") as file:
        file.write(issuer.secret)
    path = os.path.join(WORK, "edge.yaml")
    with open(path, "w") as file:
        file.write(
            f"""\
listeners: [{{address: 127.0.0.1:{port}, hosts: [127.0.0.1, {PUBLIC_NAME}]}}]
admin: {{address: 127.0.0.1:{admin}}}
auth:
  providers:
    issuer: {{jwt: {{issuer: '{issuer.url}', algorithms: [HS256], secret: {{file: secret}}}}}}
upstreams:
{''.join(upstreams)}routes:
{''.join(routes)}"""
        )
    return path


async def start_edge(binary, issuer, replicas):
    """Starts the edge and returns its port."""
    port, admin = free_ports(2)
    config = write_config(issuer, replicas, port, admin)
    check = await Process("check", binary, "check", "--config", config).start()
    status = await check.process.wait()
    Process.running.discard(check)
    if status != 0:
        raise Failure(f"the edge does not accept {config}; {check.log} says why")
    edge = await Process("edge", binary, "run", "--config", config).start()
    await edge.listens(port)
    return port


def under_public_name(issuer, port, server):
    """What the server answers to an `initialize` for the public name of the edge, when that is not what it should be."""
    resource = f"http://127.0.0.1:{port}/{server}/mcp"
    now = int(time.time())
    token = issuer.sign({"iss": issuer.url, "sub": "ada", "aud": resource, "scope": "use", "exp": now + 60})
    headers = {
        "host": PUBLIC_NAME,
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "sdks", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", f"/{server}/mcp", json.dumps(message), headers)
        response = connection.getresponse()
        return None if response.status == 200 else f"{response.status} {response.read(200).decode()}"
    finally:
        connection.close()


class Report:
    """The table, and the lists of what is not a plain success."""

    def __init__(self):
        self.rows, self.limits, self.known, self.differences = [], [], [], []
        self.seen = set()

    def add(self, server, clients):
        for name, client in CLIENTS.items():
            direct, edge = (next(c for c in clients if (c.name, c.mode) == (name, mode)) for mode in ("direct", "edge"))
            where = f"{SERVERS[server]} with {client}"
            connected = [run.results.get("connect", {}).get("detail", "") for run in (direct, edge)]
            revision = connected[1].split(",")[0]
            if connected[0] != connected[1]:
                self.differences.append(f"{where}, connect: {connected[1]} instead of {connected[0]}")
            for run in (direct, edge):
                if run.failure:
                    self.differences.append(f"{where}, {run.mode}: {run.failure}")
            signs = [
                self.sign(f"{where}, {step}", direct.results.get(step), edge.results.get(step), (server, revision, step))
                for step in STEPS
            ]
            self.rows.append(f"| {SERVERS[server]} | {client} | {revision} | {' | '.join(signs)} |")

    def sign(self, where, direct, edge, key):
        if edge is not None and edge["ok"]:
            return "✓"
        if edge is None and direct is None:
            return "·"
        where = f"{where}: {edge['detail'] if edge else 'the client has not come to it'}"
        if key[2] not in EDGE_ONLY and not (direct and direct["ok"]):
            self.limits.append(where)
            return "–"
        if edge and key in KNOWN:
            self.seen.add(key)
            self.known.append(f"{where}\n    ({KNOWN[key]})")
            return "!"
        self.differences.append(where)
        return "✗"

    def write(self):
        print("| server | client | revision |", " | ".join(STEPS), "|")
        print("| --- | --- | --- |", " | ".join(["---"] * len(STEPS)), "|")
        print(*self.rows, sep="\n")
        print("\n✓ works; – fails without the edge too; ! is known to fail; ✗ fails only through the edge; · not run")
        print("\nFails without the edge too:", *self.limits or ["nothing"], sep="\n  ")
        print("\nIs known to fail through the edge:", *self.known or ["nothing"], sep="\n  ")
        print("\nFails only through the edge:", *self.differences or ["nothing"], sep="\n  ")
        for server, revision, step in KNOWN.keys() - self.seen:
            if server in SERVERS:
                print(f"\nKNOWN in driver.py has an entry that is not needed: {SERVERS[server]}, {revision}, {step}")


async def run(binary):
    issuer, report = Issuer(), Report()
    ports = iter(free_ports(2 * len(SERVERS)))
    replicas = {server: [Replica(server, number, next(ports)) for number in (1, 2)] for server in SERVERS}
    try:
        await asyncio.gather(*(replica.begin() for pair in replicas.values() for replica in pair))
        port = await start_edge(binary, issuer, replicas)
        for server, pair in replicas.items():
            print(f"{SERVERS[server]}: {len(CLIENTS)} clients, direct and through the edge", file=sys.stderr)
            if refused := await asyncio.to_thread(under_public_name, issuer, port, server):
                report.differences.append(f"{SERVERS[server]}, a request for {PUBLIC_NAME}: {refused}")
            clients = await run_server(server, pair, f"http://127.0.0.1:{port}/{server}/mcp")
            report.add(server, clients)
            with open(os.path.join(LOGS, f"results-{server}.json"), "w") as file:
                json.dump({f"{one.name} {one.mode}": one.results for one in clients}, file, indent=1)
    finally:
        await asyncio.gather(*(process.kill() for process in list(Process.running)))
    return report


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--edge", required=True, help="the binary of the edge")
    parser.add_argument("--servers", default=",".join(SERVERS), help="the servers to run, such as mcp1,sdk2")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="the clients to run, such as mcp1,sdk2-auto")
    parser.add_argument("--strict", action="store_true", help="counts as a failure what is known to fail")
    options = parser.parse_args()
    for names, wanted in ((SERVERS, options.servers.split(",")), (CLIENTS, options.clients.split(","))):
        for name in set(names) ^ set(wanted):
            if names.pop(name, None) is None:
                parser.error(f"there is no {name}")
    shutil.rmtree(LOGS, ignore_errors=True)
    os.makedirs(LOGS)
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    start = time.monotonic()
    try:
        report = await asyncio.wait_for(run(os.path.abspath(options.edge)), ALL)
    except asyncio.TimeoutError:
        raise Failure(f"not finished after {ALL} s")
    report.write()
    failures = len(report.differences) + (len(report.known) if options.strict else 0)
    print(f"\n{failures} failures in {time.monotonic() - start:.0f} s")
    return 1 if failures else 0


try:
    sys.exit(asyncio.run(main()))
except Failure as failure:
    sys.exit(f"scripts/sdks: {failure}")
except (asyncio.CancelledError, KeyboardInterrupt):
    sys.exit(130)
