"""Processes that are started here and ended by their process ids, and the ports that they listen on."""

import asyncio
import os
import random
import socket
import time

# How long a process may take until it listens, in seconds.
READY = 30

given = set()


def port():
    """A free port, outside of the range from which the system takes ports for connections: a replica that was killed must be able to
    listen on its port again."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
        low = int(limits.read().split()[0])
    while True:
        number = random.randrange(10_000, low) if low > 12_000 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            found = probe.getsockname()[1]
        if found not in given:
            given.add(found)
            return found


class CannotStart(Exception):
    """The run cannot begin, or cannot go on."""


class Child:
    """A process, with its output in a file, or in a pipe if `piped`."""

    def __init__(self, name, command, work, ready_port, piped=False):
        self.name, self.command, self.log = name, command, os.path.join(work, f"{name}.log")
        self.ready_port, self.piped, self.process = ready_port, piped, None

    async def start(self):
        with open(self.log, "ab") as log:
            # In a session of its own, so that Ctrl-C reaches only this program, which then ends its children. The open stdin ends the
            # servers of mcp-fleet if this program is killed.
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE if self.piped else log,
                stderr=asyncio.subprocess.STDOUT, start_new_session=True, limit=1 << 20)
        deadline = time.monotonic() + READY
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.ready_port)
                writer.close()
                return
            except OSError:
                if self.process.returncode is not None or time.monotonic() > deadline:
                    raise CannotStart(f"{self.name} does not listen on its port: see {self.log}") from None
                await asyncio.sleep(0.02)

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    async def stop(self):
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except TimeoutError:
            await self.kill()
