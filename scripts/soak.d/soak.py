"""`make soak`: minutes of mixed traffic through one edge, while its replicas die and its configuration changes. docs/operations.md
says what it looks for; ledger.py says which failures are to be expected."""

import argparse
import asyncio
import collections
import json
import os
import re
import signal
import sys
import time

from changes import Changes
from child import CannotStart
from fleet import Fleet
from ledger import Ledger
from origin import Origin
from traffic import Traffic

parser = argparse.ArgumentParser(prog="make soak")
parser.add_argument("--edge", required=True)
parser.add_argument("--fleet", required=True)
parser.add_argument("--work", required=True)
parser.add_argument("--minutes", type=float, default=2, help="of traffic after the warm-up")
parser.add_argument("--rate", type=float, default=400, help="requests a second, at most")
options = parser.parse_args()

# The edge is measured twice, both times at rest: after a warm-up, which fills caches, pools and buffers, and at the end. In seconds.
WARM_UP = 20
# Everything has ended long before: the longest call takes 3 s, and idle connections to upstreams are kept for 4 s.
REST = 15
# By how many descriptors the edge may grow. At rest it has no clients, but probes may have some sockets open at any moment.
DESCRIPTORS = 20
# By how much memory the edge may grow. The allocator keeps what the busiest moment took, and a longer run has a busier one. At 400
# requests/s, the limit finds a leak of 300 bytes with each request in 2 minutes, and one of 60 bytes in 10 minutes.
MEMORY_SHARE, MEMORY_KIB = 0.20, 8 << 10
# How often a line is printed, in seconds.
REPORT = 30
GAUGES = re.compile(r"^(mcp_edge_(?:requests_in_flight|streams_open|endpoint_in_flight|client_connections)\S*) (\S+)$", re.M)
DROPPED = re.compile(r"^mcp_edge_log_lines_dropped_total (\S+)$", re.M)


class Rest:
    """What the edge holds at one moment."""

    def __init__(self, pid):
        with open(f"/proc/{pid}/status") as status:
            found = dict(line.split(":", 1) for line in status)
        self.kib, self.threads = int(found["VmRSS"].split()[0]), int(found["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))

    def __str__(self):
        return f"{self.kib / 1024:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"


class Soak:
    def __init__(self):
        print(f"soak: {options.minutes:g} minutes after {WARM_UP} s of warm-up, at most {options.rate:g} requests/s", flush=True)
        self.fleet = Fleet(options.edge, options.fleet, options.work)
        self.ledger, self.origin = Ledger(self.fleet, os.path.join(options.work, "failures.txt")), Origin()
        self.traffic = Traffic(self.fleet, self.ledger, options.rate)
        self.changes = Changes(self.fleet, self.ledger)
        self.warnings = collections.Counter()

    async def follow_log(self):
        """Reads what the edge writes. Access lines are for the ledger, all others are kept in the file."""
        stdout = self.fleet.edge.process.stdout
        with open(self.fleet.edge.log, "ab", buffering=0) as kept:
            while line := await stdout.readline():
                if line.startswith(b'{"time":'):
                    self.ledger.logged(line)
                    continue
                kept.write(line)
                if b"panicked" in line:
                    self.ledger.wrong("the edge", f"panicked: {line.decode(errors='replace')[:1000]}")
                elif b'"level":"ERROR"' in line or b'"level":"WARN"' in line:
                    text = json.loads(line)["message"].replace(self.fleet.path, "edge.yaml")
                    self.warnings[re.sub(r"\d+", "N", text)[:120]] += 1
        code = await self.fleet.edge.process.wait()
        self.ledger.wrong("the edge", f"has ended with {code}; its log is {self.fleet.edge.log}")

    async def report(self):
        begun, requests, due = time.monotonic(), 0, REPORT
        while True:
            await asyncio.sleep(1)
            self.ledger.settle()
            spent = time.monotonic() - begun
            if spent < due:
                continue
            due += REPORT
            ledger = self.ledger
            print(f"{spent:5.0f} s: {(self.traffic.requests - requests) / REPORT:.0f} requests/s, {ledger.good.total():,} good, "
                  f"{ledger.expected.total():,} expected failures, {ledger.unexpected.total():,} unexpected; "
                  f"edge: {Rest(self.fleet.edge.process.pid)}", flush=True)
            requests = self.traffic.requests

    async def run_for(self, seconds):
        """Traffic and changes for some seconds, and then a rest. Returns what the edge holds then."""
        end = time.monotonic() + seconds
        await asyncio.gather(self.traffic.run(seconds), self.changes.run(end))
        await asyncio.sleep(REST)
        self.ledger.settle(everything=True)
        return Rest(self.fleet.edge.process.pid)

    async def run(self):
        await self.origin.start(self.fleet.origin_port)
        await self.fleet.start()
        following = asyncio.create_task(self.follow_log())
        running = asyncio.create_task(self.measure())
        reporting = asyncio.create_task(self.report())
        try:
            await asyncio.wait([following, running, reporting], return_when=asyncio.FIRST_COMPLETED)
            # When the edge has ended, the log ends, and everything else fails.
            await asyncio.wait([following], timeout=1)
            for task in (running, reporting):
                if task.done() and not following.done():
                    task.result()
        finally:
            for task in (following, running, reporting):
                task.cancel()
            await asyncio.gather(following, running, reporting, return_exceptions=True)
            self.ledger.settle(everything=True)

    async def measure(self):
        first = await self.run_for(WARM_UP)
        print(f"at rest after the warm-up: {first}", flush=True)
        last = await self.run_for(options.minutes * 60)
        print(f"at rest at the end:        {last}", flush=True)
        wrong = self.ledger.wrong
        if last.descriptors > first.descriptors + DESCRIPTORS:
            wrong("the edge", f"descriptors grew from {first.descriptors} to {last.descriptors}")
        if last.kib > first.kib * (1 + MEMORY_SHARE) + MEMORY_KIB:
            wrong("the edge", f"memory grew from {first.kib} KiB to {last.kib} KiB")
        await self.check_metrics()

    async def check_metrics(self):
        """At rest nothing is in flight, and no stream is open."""
        wrong, metrics = self.ledger.wrong, (await self.fleet.admin("GET", "/metrics"))[1].decode()
        gauges = GAUGES.findall(metrics)
        if len(gauges) < 10:
            wrong("the edge", f"the gauges are missing in /metrics: {gauges}")
        for name, value in gauges:
            if float(value) != 0:
                wrong("the edge", f"{name} is {value} at rest")
        for value in DROPPED.findall(metrics):
            if value != "0":
                self.ledger.notes["lines that the edge's log has dropped"] += int(value)


async def main():
    soak = Soak()
    running = asyncio.create_task(soak.run())
    interrupted = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda number=number: (interrupted.append(number), running.cancel()))
    try:
        await running
    except CannotStart as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("soak: interrupted; this is what was seen so far", flush=True)
    finally:
        await soak.fleet.stop()
        await soak.origin.stop()
    print(f"\n{soak.ledger.table()}\n\nwarnings and errors in the edge's log:")
    for text, count in soak.warnings.most_common(20):
        print(f"  {count:>6,}  {text}")
    unexpected = soak.ledger.unexpected.total()
    print(f"\nunexpected: {unexpected}" + (f"; the first {len(soak.ledger.shown)}:" if unexpected else ""))
    for text in soak.ledger.shown:
        print(f"* {text}")
    if interrupted:
        return 128 + interrupted[0]
    return 1 if unexpected else 0


sys.exit(asyncio.run(main()))
