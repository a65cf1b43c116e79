"""`make compare`: compares the edge with nginx, HAProxy and Envoy, on one machine and in one run (docs/performance.md)."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

import gateway
import load
import proxies
import shapes as shaped

parser = argparse.ArgumentParser()
parser.add_argument("--edge", required=True)
parser.add_argument("--fleet", required=True)
parser.add_argument("--envoy", help="Envoy's binary; without it Envoy is left out")
parser.add_argument("--fastmcp", help="a Python that has FastMCP; without it FastMCP is left out of the table `gateway`")
parser.add_argument("--mcp-proxy", help="the binary of the crate mcp-proxy; without it mcp-proxy is left out of the table `gateway`")
parser.add_argument("--work", required=True)
parser.add_argument("--seconds", type=int, default=4, help="of one measurement")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--tables", default="one,two,shapes,streams,latency,size,gateway")
options = parser.parse_args()

CONNECTIONS = 32
REFERENCE = "nginx auth_request cached"
# One processor is for the proxy, and the others are for load and backend, so that they do not slow each other down.
PROCESSORS = sorted(os.sched_getaffinity(0))
PROXY, OTHERS = str(PROCESSORS[0]), ",".join(map(str, PROCESSORS[1:] or PROCESSORS))


def folder(name):
    path = os.path.join(options.work, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


class Target:
    """A proxy, and the requests that go to it. Without `process`, the requests go directly to the backend."""

    def __init__(self, name, process, port, path, work, session=None, tokens=None):
        self.name, self.process, self.path, self.session, self.differs = name, process, path, session, bool(tokens)
        self.url = f"http://127.0.0.1:{port}{path}"
        self.lua = load.script(work, name.replace(" ", "-").replace("/", "-"), session, tokens)
        self.rounds = []

    def run(self, seconds, cpus, threads=1, lua=None, connections=CONNECTIONS):
        before = self.process.cpu_seconds() if self.process else 0
        # With two threads, wrk would make the many requests of the second thread while the first one already sends. These
        # requests would count, but not the time.
        threads = 1 if self.differs else threads
        seen = load.wrk(self.url, lua or self.lua, seconds, connections, threads, cpus)
        if self.process:
            seen["cpu_us"] = (self.process.cpu_seconds() - before) * 1e6 / seen["requests"]
            seen["mib"] = self.process.resident_mib()
        return seen


def started(work, threads, cpus, backend_port, auth_port):
    """Starts all proxies, and returns them in the order of the table."""
    edge = proxies.Edge(options.edge, work, [backend_port], threads, cpus)
    found = [Target("direct", None, backend_port, "/mcp", work)]

    def add(name, process):
        found.append(Target(name, process, process.port, "/one/mcp", work))

    add("nginx plain", proxies.nginx_proxy("plain", work, backend_port, auth_port, threads, cpus))
    add(REFERENCE, proxies.nginx_proxy("cached", work, backend_port, auth_port, threads, cpus))
    add("nginx auth_request uncached", proxies.nginx_proxy("uncached", work, backend_port, auth_port, threads, cpus))
    add("HAProxy plain", proxies.haproxy("plain", work, backend_port, threads, cpus))
    add("HAProxy jwt_verify", proxies.haproxy("jwt", work, backend_port, threads, cpus))
    if options.envoy:
        add("Envoy plain", proxies.envoy("plain", options.envoy, work, backend_port, threads, cpus))
        add("Envoy jwt_authn", proxies.envoy("jwt", options.envoy, work, backend_port, threads, cpus))
    session = edge.session()
    found.append(Target("mcp-edge, everything on", edge, edge.port, "/one/mcp", work, session))
    tokens = proxies.write(work, "token.txt", proxies.token() + "\n")
    found.append(Target("mcp-edge, no head twice", edge, edge.port, "/one/mcp", work, session, tokens))
    found.append(Target("mcp-edge, opaque route", edge, edge.port, "/opaque/mcp", work))
    return found


def stop(targets):
    for process in {target.process for target in targets if target.process}:
        process.stop()


def middle(values):
    return statistics.median(values)


def spread(values, digits=1):
    if not values:
        return "-"
    return f"{middle(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def against(rounds, others):
    """The ratio of the CPU time to that of the others, round by round, because the speed of the machine changes over time."""
    return spread([own["cpu_us"] / other["cpu_us"] for own, other in zip(rounds, others) if "cpu_us" in own], 2)


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def turns(targets, times=1):
    """The targets in turn, in another order in each round, so that changes of the machine's speed affect all of them."""
    for number in range(times * options.rounds):
        yield from targets[number % len(targets):] + targets[: number % len(targets)]
        print(f"round {number + 1} of {times * options.rounds}", file=sys.stderr, flush=True)


def rounds(targets, cpus, wrk_threads):
    for target in targets:
        target.run(1, cpus, wrk_threads)
    for target in turns(targets):
        target.rounds.append(target.run(options.seconds, cpus, wrk_threads))


def column(target, key):
    return [seen[key] for seen in target.rounds if key in seen]


def throughput(title, work, threads, cpus, load_cpus):
    print(f"### {title}\n")
    backend_port, auth_port = proxies.port(), proxies.port()
    backend = proxies.backend(work, load_cpus, [backend_port])
    auth = proxies.auth_server(work, load_cpus, auth_port)
    targets = []
    try:
        targets = started(work, threads, cpus, backend_port, auth_port)
        rounds(targets, load_cpus, threads)
        reference = next(target for target in targets if target.name == REFERENCE)
        rows = []
        for target in targets:
            rows.append([
                target.name, spread(column(target, "per_second"), 0), spread(column(target, "cpu_us")),
                against(target.rounds, reference.rounds), spread(column(target, "p50_us"), 0),
                spread(column(target, "p99_us"), 0), spread(column(target, "mib")), str(sum(column(target, "failed"))),
            ])
        table(["", "requests/s", "CPU us/request", "x nginx cached", "p50 us", "p99 us", "MiB", "failed"], rows)
        return {target.name: target.rounds for target in targets}
    finally:
        stop(targets)
        auth.stop()
        backend.stop()


def shapes(work):
    backend_port, auth_port, echo_port = proxies.port(), proxies.port(), proxies.port()
    echo = proxies.Process("echo", [options.fleet, "echo", "--port", str(echo_port)], work, echo_port, OTHERS)
    backend = proxies.backend(work, OTHERS, [backend_port], echo_port)
    auth = proxies.auth_server(work, OTHERS, auth_port)
    targets, result = [], {}
    try:
        targets = started(work, 1, PROXY, backend_port, auth_port)
        names = [REFERENCE, "HAProxy jwt_verify", "Envoy jwt_authn", "mcp-edge, everything on", "mcp-edge, opaque route"]
        measured = [target for target in targets if target.name in names]
        for shape in shaped.SHAPES:
            print(f"### {shape}, one thread\n")
            able = [target for target in measured if shaped.can(target, shape)]
            each = [shaped.Shaped(target, shape, work, CONNECTIONS, options.fleet) for target in able]
            for target in each:
                target.run(1, OTHERS)
            for target in turns(each):
                target.rounds.append(target.run(options.seconds, OTHERS))
            reference = next(target for target in each if target.name == REFERENCE)
            table(["", "requests/s", "CPU us/request", "x nginx cached", "failed"], [
                [target.name, spread(column(target, "per_second"), 0), spread(column(target, "cpu_us")),
                 against(target.rounds, reference.rounds), str(sum(column(target, "failed")))] for target in each])
            result[shape] = {target.name: target.rounds for target in each}
        return result
    finally:
        stop(targets)
        auth.stop()
        backend.stop()
        echo.stop()


def event_streams(work):
    print("### 1,000 event streams, 10 events a second each, one thread\n")
    source_port, backend_port = proxies.port(), proxies.port()
    source = proxies.Process("events", [options.fleet, "events", "--port", str(source_port)], work, source_port, OTHERS)
    targets = []
    try:
        edge = proxies.Edge(options.edge, work, [source_port], 1, PROXY)
        targets = [
            Target("direct", None, source_port, "/mcp", work),
            Target("nginx plain", *plain(proxies.nginx_proxy("plain", work, source_port, backend_port, 1, PROXY)), work),
            Target("HAProxy plain", *plain(proxies.haproxy("plain", work, source_port, 1, PROXY)), work),
            Target("mcp-edge, everything on", *plain(edge), work),
        ]
        result = {target.name: [] for target in targets}
        # Many short rounds: now and then the whole machine pauses, and no proxy is the reason for such a delay.
        for target in turns(targets, 2):
            used = target.process.cpu_seconds if target.process else (lambda: 0.0)
            result[target.name].append(load.streams(options.fleet, target.url, 1000, options.seconds, None, OTHERS, used))
        rows = []
        for name, seen in result.items():
            cost = [one["cpu_share"] * 1e6 / 10_000 for one in seen] if name != "direct" else []
            rows.append([name, spread(cost), spread([one["p50_us"] for one in seen], 0), spread([one["p99_us"] for one in seen], 0),
                         str(sum(one["ended"] for one in seen))])
        table(["", "CPU us/event", "delay p50 us", "delay p99 us", "streams that ended"], rows)
        return result
    finally:
        stop(targets)
        source.stop()


def plain(process):
    return process, process.port, "/one/mcp"


def latency(work):
    # No process is bound to a processor: at this rate, there is enough CPU time. With bound processes, each hop from one
    # processor to another would be measured as the time that it takes to wake an idle processor.
    print("### Latency: one connection, and 1,000 requests a second over 10\n")
    backend_port, auth_port = proxies.port(), proxies.port()
    backend, auth = proxies.backend(work, None, [backend_port]), proxies.auth_server(work, None, auth_port)
    targets, result = [], {}
    try:
        targets = started(work, 1, None, backend_port, auth_port)
        measured = [target for target in targets if not target.differs]
        for _ in range(options.rounds):
            for target in measured:
                seen = result.setdefault(target.name, {"one": [], "steady": []})
                seen["one"].append(load.steady(options.fleet, target.url, 0, 1, 2, target.session, None))
                seen["steady"].append(load.steady(options.fleet, target.url, 1000, 10, options.seconds, target.session, None))

        def at(name, kind, key):
            return middle([one[key] for one in result[name][kind]])

        rows = []
        for target in measured:
            cells = [target.name]
            for kind in ("one", "steady"):
                for key in ("p50_us", "p99_us"):
                    here = at(target.name, kind, key)
                    cells.append(f"{here:.0f} (+{here - at('direct', kind, key):.0f})")
            rows.append([*cells, str(sum(one["failed"] for kind in result[target.name].values() for one in kind))])
        table(["", "1 connection p50 us", "p99 us", "1,000/s p50 us", "p99 us", "failed"], rows)
        return result
    finally:
        stop(targets)
        auth.stop()
        backend.stop()


def size(work):
    print("### The edge with more of everything, one thread\n")
    ports = proxies.ports(1000)
    backend = proxies.backend(work, OTHERS, ports)
    scripts = []
    for count in (1, load.DIFFERENT):
        tokens = os.path.join(work, f"tokens-{count}.txt")
        with open(tokens, "w") as file:
            file.writelines(f"{proxies.token(f'user-{number}', number)}\n" for number in range(count))
        scripts.append(load.script(work, f"tokens-{count}", None, tokens))
    edges, targets = [], []
    try:
        for name, routes, endpoints in [("10 routes, 1 token, 2 endpoints", 10, 2), ("1,000 routes", 1000, 2), ("10,000 routes", 10_000, 2), ("1,000 endpoints", 10, 1000)]:
            edge = proxies.Edge(options.edge, work, ports[:endpoints], 1, PROXY, f"edge-{routes}-{endpoints}", routes)
            edges.append(edge)
            targets.append(Target(name, edge, edge.port, "/one/mcp", work))
        many = Target("100,000 tokens", edges[0], edges[0].port, "/one/mcp", work)
        targets.append(many)
        for target in targets:
            # Without a session, because a session of one edge is valid only there.
            target.lua = scripts[target is many]
        # Until the edge has seen each token once.
        many.run(30, OTHERS)
        for target in targets:
            target.run(1, OTHERS)
        # The differences are small. So each target is measured many times, directly before or after the one that it is
        # compared with.
        first, *more = targets
        beside = {target.name: [] for target in more}
        for number in range(4 * options.rounds):
            for target in more:
                for each in (first, target) if number % 2 else (target, first):
                    each.rounds.append(each.run(options.seconds, OTHERS))
                beside[target.name].append(first.rounds[-1])
            print(f"round {number + 1} of {4 * options.rounds}", file=sys.stderr, flush=True)
        table(["", "CPU us/request", "x the first", "MiB", "failed"], [
            [target.name, spread(column(target, "cpu_us")), against(target.rounds, beside.get(target.name, target.rounds)),
             spread(column(target, "mib")), str(sum(column(target, "failed")))] for target in targets])
        return {**{target.name: target.rounds for target in targets}, "the first, beside each": beside}
    finally:
        stop(targets)
        backend.stop()


def version(*command):
    found = subprocess.run(command, capture_output=True, text=True)
    return (found.stdout + found.stderr).strip().splitlines()[0].split("version:")[-1].strip()


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    return {
        "date": time.strftime("%Y-%m-%d"), "processors": len(PROCESSORS), "model": model, "kernel": platform.release(),
        "nginx": version("nginx", "-v"), "haproxy": version("haproxy", "-v"),
        "envoy": version(options.envoy, "--version") if options.envoy else None,
    }


def main():
    tables = options.tables.split(",")
    result = {"machine": machine(), "seconds": options.seconds, "rounds": options.rounds}
    print(json.dumps(result["machine"]), "\n")
    everything = ",".join(map(str, PROCESSORS))
    if "one" in tables:
        result["one"] = throughput(f"One proxy thread, {CONNECTIONS} connections", folder("one"), 1, PROXY, OTHERS)
    if "two" in tables:
        result["two"] = throughput(f"Two proxy threads, {CONNECTIONS} connections, on all processors", folder("two"), 2, everything, everything)
    if "shapes" in tables:
        result["shapes"] = shapes(folder("shapes"))
    if "streams" in tables:
        result["streams"] = event_streams(folder("streams"))
    if "latency" in tables:
        result["latency"] = latency(folder("latency"))
    if "size" in tables:
        result["size"] = size(folder("size"))
    if "gateway" in tables:
        result["gateway"] = gateway.measure(options, folder("gateway"), PROXY, OTHERS, table, spread, against)
    path = os.path.join(options.work, "results.json")
    with open(path, "w") as file:
        json.dump(result, file, indent=1)
    print(f"everything is in {path}")


main()
