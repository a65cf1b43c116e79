"""Mixed traffic: how many tasks of each kind run at once, and at which rate they may send requests."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import random
import time

import mcp
import plain
import refused
import slow
from client import Connection
from fleet import ISSUER, SECRET
from ledger import Over

# Kinds of traffic, and how many tasks of each run at once.
TASKS = {
    mcp.session: 16, mcp.stateless: 12, mcp.stream: 6, mcp.abandoned: 6, plain.event_stream: 6, plain.websocket: 4, plain.opaque: 6,
    slow.slow: 6, refused.refused: 4,
}
# The last unit of a task may take so long after its time is over: a slow reader, and then a hang.
LAST = 60
SUBJECTS = 20


def token(subject="alice", scope="soak", secret=SECRET, **claims):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    named = {"iss": ISSUER, "aud": "mcp-edge", "sub": subject, "exp": int(time.time()) + 86_400, "scope": scope, **claims}
    message = part(b'{"alg":"HS256","typ":"at+jwt"}') + b"." + part(json.dumps(named).encode())
    return (message + b"." + part(hmac.new(secret.encode(), message, hashlib.sha256).digest())).decode()


class Traffic:
    def __init__(self, fleet, ledger, rate):
        self.fleet, self.ledger, self.rate = fleet, ledger, rate
        self.tokens = [token(f"user-{number}") for number in range(SUBJECTS)]
        self.bad_tokens = {
            "expired": token(exp=int(time.time()) - 3_600), "another audience": token(aud="another"), "not a JWT": "abc.def.ghi",
            "another secret": token(secret="x" * 32), "another issuer": token(iss="https://other.example"),
            "no algorithm": base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=") + "." + token().split(".")[1] + ".",
        }
        self.scopeless, self.other_token = token(scope="other"), token("another-user")
        self.numbers, self.next = itertools.count(1), 0.0
        self.requests = 0

    def name(self):
        """A name that no other request has."""
        return f"n{next(self.numbers)}"

    def connection(self, **settings):
        return Connection(self.fleet.port, **settings)

    async def pace(self):
        """Waits until another request may be sent."""
        now = time.monotonic()
        self.next = max(self.next, now - 0.1) + 1 / self.rate
        self.requests += 1
        await asyncio.sleep(max(0.0, self.next - now))

    @contextlib.asynccontextmanager
    async def request(self, kind, what, connection, session=None):
        """One request and its answer, at a time when another request may be sent. The ledger records what becomes of it."""
        await self.pace()
        async with self.ledger.exchange(kind, what, connection, session) as exchange:
            yield exchange

    async def run(self, seconds):
        """Runs all traffic for so long, and waits until the last request has ended."""
        end = time.monotonic() + seconds
        tasks = [asyncio.create_task(self.repeat(kind, end), name=kind.__name__) for kind, count in TASKS.items() for _ in range(count)]
        try:
            ended, hung = await asyncio.wait(tasks, timeout=seconds + LAST, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
            for task in hung:
                self.ledger.wrong(task.get_name(), f"has not ended {LAST} s after its time: {task.get_stack()[-1]}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def repeat(self, kind, end):
        # Tasks of one kind do not begin at the same moment.
        await asyncio.sleep(random.uniform(0, 2))
        while time.monotonic() < end:
            try:
                await kind(self)
            except Over:
                pass
