"""What is done to the edge and its replicas while traffic runs: kills, restarts and reloads."""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import time

from client import Broken, Hang
from fleet import REPLICAS

# How long the edge may take until it has a changed configuration, in seconds.
APPLIED = 10


class Changes:
    def __init__(self, fleet, ledger):
        self.fleet, self.ledger = fleet, ledger

    async def run(self, end):
        """Changes something now and then until `end`. Afterwards all replicas run and are in the configuration."""
        await asyncio.gather(self.kill_often(end), self.reload_often(end))

    async def kill_often(self, end):
        """Kills one replica at a time with SIGKILL, and starts it again."""
        while (pause := random.uniform(8, 12)) + time.monotonic() < end:
            await asyncio.sleep(pause)
            number = random.randrange(REPLICAS)
            self.fleet.kills.append((self.fleet.endpoint(number), time.monotonic()))
            await self.fleet.replicas[number].kill()
            await asyncio.sleep(random.uniform(0, 3))
            await self.fleet.replicas[number].start()
            self.ledger.notes["kills of a replica"] += 1

    async def reload_often(self, end):
        while time.monotonic() < end:
            await asyncio.sleep(random.uniform(2, 4))
            if random.random() < 0.3:
                await self.reload_broken()
            else:
                await self.reload(spare=random.random() < 0.5, extra=random.random() < 0.5)
        await self.reload(spare=True, extra=True)

    def write(self, text):
        """Half of the time in place, as an editor does, and half of the time by a rename, as deployments do."""
        name = random.choice(["edge.yaml", "edge.yaml.new"])
        self.fleet.write(name, text)
        os.replace(os.path.join(self.fleet.folder, name), self.fleet.path)

    @contextlib.asynccontextmanager
    async def exchange(self):
        """Requests to the admin listener, none of which may fail."""
        try:
            yield
            self.ledger.good["reloads"] += 1
        except (Broken, Hang, OSError, ValueError, KeyError) as error:
            self.ledger.wrong("reloads", f"the admin listener: {error!r}")

    async def reload(self, spare, extra):
        """Changes the configuration, and waits until the edge has it."""
        fleet = self.fleet
        if fleet.spare and not spare:
            fleet.removals.append([fleet.endpoint(REPLICAS - 1), time.monotonic(), float("inf")])
        comes_back = spare and not fleet.spare
        fleet.spare, fleet.extra, fleet.stamp, fleet.known_extra = spare, extra, fleet.stamp + 1, None
        text = fleet.text()
        self.write(text)
        trigger = random.choice(["POST /reload", "SIGHUP", "a changed file"])
        async with self.exchange():
            if trigger == "POST /reload":
                status, body = await fleet.admin("POST", "/reload")
                if status != 200:
                    raise Broken(f"POST /reload: {status} {body[:300]!r}")
            elif trigger == "SIGHUP":
                fleet.edge.process.send_signal(signal.SIGHUP)
            wanted, deadline = hashlib.sha256(text.encode()).hexdigest(), time.monotonic() + APPLIED
            while (await fleet.status())["files"][0]["sha256"] != wanted:
                if time.monotonic() > deadline:
                    raise Hang(f"after {APPLIED} s the edge does not have the configuration ({trigger})")
                await asyncio.sleep(0.05)
            fleet.known_extra, fleet.least_stamp = extra, fleet.stamp
            if comes_back:
                fleet.removals[-1][2] = time.monotonic()
            self.ledger.notes[f"reloads by {trigger}"] += 1

    async def reload_broken(self):
        """Writes a configuration that does not load. The edge must keep the one that it has."""
        async with self.exchange():
            before = (await self.fleet.status())["generation"]
            self.write(random.choice(self.fleet.broken_texts()))
            status, body = await self.fleet.admin("POST", "/reload")
            after = await self.fleet.status()
            if status != 422 or after["generation"] != before or after["last_reload"]["result"] != "failure":
                raise Broken(f"a broken configuration: {status} {body!r}, generation {before} became {after}")
            self.ledger.notes["broken configurations"] += 1
        self.write(self.fleet.text())
