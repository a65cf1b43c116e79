"""Slow clients. They must get all that they ask for, only later."""

import asyncio
import random
import time

from ledger import Wrong
from mcp_client import Client, accept, response
from origin import pattern
from plain import own

# What a slow reader reads, and a slow writer writes, each second. The edge wants at least 1 KiB a second of a message.
READ, WRITE = 1 << 10, 4 << 10
# How long a reader is slow, in seconds. It reads the rest at full speed.
TIME = 3, 12
BIG = 1 << 20


async def slow(traffic):
    await random.choice([reader, reader_of_a_tool, writer, writer_of_a_message, writer_of_a_head])(traffic)


async def slowly(pieces):
    """The pieces: one each second for some seconds, then all others."""
    end = time.monotonic() + random.uniform(*TIME)
    async for piece in pieces:
        yield piece
        if time.monotonic() < end:
            await asyncio.sleep(1)


async def write_slowly(connection, data):
    for at in range(0, len(data), WRITE):
        await connection.write(data[at:at + WRITE])
        await asyncio.sleep(1)


async def reader(traffic):
    connection, id = traffic.connection(window=2 * READ, most=READ), traffic.name()
    try:
        async with traffic.request("slow readers", "GET /open/bytes", connection) as exchange:
            answer = await connection.send("GET", f"/open/bytes?id={id}&count={BIG}", {})
            exchange.request_id = answer.request_id
            answer.pieces = slowly(answer.pieces)
            await own(answer, id, pattern(id, BIG))
    finally:
        connection.close()


async def reader_of_a_tool(traffic):
    client, id = Client(traffic, "slow readers", "/pool/mcp"), traffic.name()
    client.connection = traffic.connection(window=2 * READ, most=READ)
    arguments = {"ticker": id, "from": "2026-01-01", "to": "2026-12-31", "timespan": "hour"}
    try:
        async with client.exchange("a long table") as exchange:
            answer = await client.post(exchange, "tools/call", {"name": "print_stock_data", "arguments": arguments}, id)
            answer.pieces = slowly(answer.pieces)
            lines = (await response(answer, id))["result"]["content"][0]["text"].splitlines()
            # The ticker, the names of the columns, the hours of 364 days, and the first one of the last day.
            if lines[0] != id or len(lines) != 2 + 364 * 24 + 1:
                raise Wrong(f"not the table of {id}, but {len(lines)} lines of {lines[0][:100]}")
    finally:
        client.close()


async def writer(traffic):
    connection, id = traffic.connection(), traffic.name()
    body = pattern(id, random.randrange(WRITE, 10 * WRITE))
    try:
        async with traffic.request("slow writers", "POST /open/echo", connection) as exchange:
            await connection.open()
            await connection.write(connection.head("POST", f"/open/echo?id={id}", {}, body))
            await write_slowly(connection, body)
            answer = await connection.answer()
            exchange.request_id = answer.request_id
            await own(answer, id, body)
    finally:
        connection.close()


async def writer_of_a_message(traffic):
    client, id = Client(traffic, "slow writers", "/steady/mcp"), traffic.name()
    name = id + "-" * random.randrange(WRITE, 6 * WRITE)
    try:
        async with client.exchange("a long message") as exchange:
            await client.connection.open()
            body = client.message("tools/call", {"name": "greet", "arguments": {"name": name}}, id)
            await client.connection.write(client.connection.head("POST", client.route, client.fields("tools/call", "greet"), body))
            await write_slowly(client.connection, body)
            answer = await client.connection.answer()
            exchange.request_id = answer.request_id
            await accept(answer, 200)
            text = (await response(answer, id))["result"]["content"][0]["text"]
            if text != f"Hello, {name}!":
                raise Wrong(f"the greeting of another: {text[:100]!r}, not {id}")
    finally:
        client.close()


async def writer_of_a_head(traffic):
    connection, id = traffic.connection(), traffic.name()
    try:
        async with traffic.request("slow writers", "the head of a GET", connection) as exchange:
            await connection.open()
            head = connection.head("GET", f"/open/bytes?id={id}&count=100", {})
            for at in range(0, len(head), 5):
                await connection.write(head[at:at + 5])
                await asyncio.sleep(0.1)
            answer = await connection.answer()
            exchange.request_id = answer.request_id
            await own(answer, id, pattern(id, 100))
    finally:
        connection.close()
