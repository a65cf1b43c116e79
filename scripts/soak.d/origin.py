"""The server behind routes without a protocol. Whatever it answers names what the request has named, so that a client sees
whether an answer is its own."""

import asyncio
import urllib.parse

from client import Broken, Hang, pieces, read_head


def pattern(name, count):
    """`count` bytes that are different for each name."""
    one = f"{name}\n".encode()
    return (one * (count // len(one) + 1))[:count]


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Origin:
    """`/bytes?id=X&count=N` answers with `pattern(X, N)`, `/echo?id=X` with the body of the request while this comes, and
    `/events?id=X` with an event stream that does not end. With `chunked`, an answer has no length."""

    def __init__(self):
        self.tasks = set()

    async def start(self, port):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            while await self.answer(reader, writer):
                pass
        except (Broken, Hang, OSError):
            # The edge has closed the connection, or has kept it idle for long.
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def answer(self, reader, writer):
        first, fields = await read_head(reader)
        method, target, _ = first.split(" ")
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = pieces(reader, fields)
        kind = "text/event-stream" if url.path == "/events" else "application/octet-stream"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Id: {query['id']}\r\n"
        if url.path == "/bytes":
            async for _ in body:
                pass
            data = pattern(query["id"], int(query["count"]))
            if "chunked" in query:
                framed, data = "Transfer-Encoding: chunked", chunk(data) + b"0\r\n\r\n"
            else:
                framed = f"Content-Length: {len(data)}"
            writer.write(f"{head}{framed}\r\n\r\n".encode() + (b"" if method == "HEAD" else data))
            await writer.drain()
            return True
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        if url.path == "/echo":
            async for piece in body:
                writer.write(chunk(piece))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        number = 0
        while not reader.at_eof():
            writer.write(chunk(f"data: {query['id']} {number}\n\n".encode()))
            await writer.drain()
            await asyncio.sleep(0.05)
            number += 1
        return False
