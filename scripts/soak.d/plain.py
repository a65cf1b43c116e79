"""Clients of routes without a protocol."""

import asyncio
import contextlib
import itertools
import random

from client import WebSocket
from ledger import Failed, Wrong
from mcp_client import accept
from origin import pattern


async def own(answer, id, wanted):
    """Raises an error unless this is the answer to the request that has named `id`."""
    await accept(answer, 200)
    body, named = await answer.body(), answer.fields.get("x-id")
    if named != id or body != wanted:
        raise Wrong(f"not the answer for {id}, but that for {named}, {len(body)} bytes: {body[:100]!r}")


def size():
    """Mostly up to 4 KiB, at times up to 1 MiB."""
    return int(2 ** random.uniform(0, 12 if random.random() < 0.9 else 20))


async def opaque(traffic):
    """Requests and answers with all kinds of bodies, some of them on one connection."""
    connection = traffic.connection()
    try:
        for _ in range(random.randrange(1, 20)):
            await random.choice([fetch, fetch, echo, extra, pipelined])(traffic, connection)
    finally:
        connection.close()


async def fetch(traffic, connection):
    id, count, method = traffic.name(), size(), random.choice(["GET", "GET", "HEAD"])
    target = f"/opaque/bytes?id={id}&count={count}{random.choice(['', '&chunked=1'])}"
    async with traffic.request("opaque", f"{method} of {count} bytes", connection) as exchange:
        least = traffic.fleet.least_stamp
        answer = await connection.send(method, target, {"Authorization": f"Bearer {random.choice(traffic.tokens)}"})
        exchange.request_id = answer.request_id
        await own(answer, id, b"" if method == "HEAD" else pattern(id, count))
        if not least <= int(answer.fields["x-stamp"]) <= traffic.fleet.stamp:
            raise Wrong(f"the answer is of configuration {answer.fields['x-stamp']}, although {least} was already in use")


async def echo(traffic, connection):
    id, count = traffic.name(), size()
    body, target = pattern(id, count), f"/open/echo?id={id}"
    async with traffic.request("opaque", f"POST of {count} bytes", connection) as exchange:
        if random.random() < 0.5:
            chunks = [body[at:at + (32 << 10)] for at in range(0, count, 32 << 10)]
            framed = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks) + b"0\r\n\r\n"
            answer = await connection.send("POST", target, {"Transfer-Encoding": "chunked"}, framed=framed)
        else:
            answer = await connection.send("POST", target, {}, body)
        exchange.request_id = answer.request_id
        await own(answer, id, body)


async def extra(traffic, connection):
    """A request to a route that comes and goes with reloads."""
    id = traffic.name()
    async with traffic.request("opaque", "GET /extra/bytes", connection) as exchange:
        known, stamp = traffic.fleet.known_extra, traffic.fleet.stamp
        answer = await connection.send("GET", f"/extra/bytes?id={id}&count=10", {})
        exchange.request_id = answer.request_id
        if known is None or stamp != traffic.fleet.stamp:
            # The configuration changes at this moment.
            known = answer.status != 404
        if known:
            await own(answer, id, pattern(id, 10))
        else:
            await accept(answer, 404)
            await answer.body()


async def pipelined(traffic, connection):
    """Several requests at once. Their answers must come in the same order."""
    ids = [traffic.name() for _ in range(3)]
    async with traffic.request("opaque", "3 pipelined requests", connection) as exchange:
        for _ in ids[1:]:
            await traffic.pace()
        await connection.open()
        await connection.write(b"".join(connection.head("GET", f"/open/bytes?id={id}&count=100", {}) for id in ids))
        for id in ids:
            answer = await connection.answer()
            exchange.request_id = answer.request_id
            await own(answer, id, pattern(id, 100))


async def event_stream(traffic):
    """An event stream without an end, which the client leaves."""
    connection, id, numbers = traffic.connection(), traffic.name(), itertools.count()
    try:
        async with traffic.request("event streams", "GET /open/events", connection) as exchange:
            answer = await connection.send("GET", f"/open/events?id={id}", {})
            exchange.request_id = answer.request_id
            await accept(answer, 200)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.01, 2)):
                    async for data in answer.events():
                        if data != f"{id} {next(numbers)}":
                            raise Wrong(f"not the next event of {id}: {data!r}")
                    raise Failed("the stream ended by itself")
    finally:
        connection.close(reset=random.random() < 0.3)


async def websocket(traffic):
    """Messages of a WebSocket, which come back."""
    connection = traffic.connection()
    try:
        async with traffic.request("WebSockets", "the handshake", connection) as exchange:
            fields = WebSocket.fields()
            answer = await connection.send("GET", "/echo/", fields)
            exchange.request_id = answer.request_id
            await accept(answer, 101)
            if answer.fields["sec-websocket-accept"] != WebSocket.accept(fields["Sec-WebSocket-Key"]):
                raise Wrong("the answer to another handshake")
        socket = WebSocket(connection)
        for _ in range(random.randrange(1, 60)):
            async with traffic.request("WebSockets", "a message", connection) as exchange:
                exchange.request_id = answer.request_id
                payload = pattern(traffic.name(), random.choice([5, 100, 1_000, 65_535]))
                await socket.send(payload)
                back = await socket.receive()
                if back != payload:
                    raise Wrong(f"not the message that was sent, {payload[:20]!r}, but {back[:100]!r}")
    finally:
        connection.close(reset=random.random() < 0.3)
