"""HTTP/1.1 and WebSockets as a client speaks them. No library stands between, so that every byte of an answer is looked at."""

import asyncio
import base64
import hashlib
import itertools
import os
import socket
import struct

# Nothing may take longer, in seconds.
PATIENCE = 30
PIECE = 64 << 10
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Broken(Exception):
    """The connection ended in the middle of a message, or what came is not HTTP."""


class Hang(Exception):
    """Nothing came for `PATIENCE` seconds."""


async def patiently(awaitable):
    try:
        async with asyncio.timeout(PATIENCE):
            return await awaitable
    except TimeoutError as error:
        raise Hang(f"nothing for {PATIENCE} s") from error


async def line(reader):
    try:
        return (await patiently(reader.readuntil(b"\r\n")))[:-2]
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
        raise Broken(f"the connection ended within a line: {error!r}") from error


async def exactly(reader, count):
    try:
        return await patiently(reader.readexactly(count))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Broken(f"the connection ended within a body: {error!r}") from error


async def read_head(reader):
    """The first line of a message, and its fields with names in lower case."""
    first, fields = (await line(reader)).decode("latin-1"), {}
    while text := (await line(reader)).decode("latin-1"):
        name, colon, value = text.partition(":")
        if not colon or name.lower() in fields:
            raise Broken(f"a field without a colon, or a second one of the same name: {text!r}")
        fields[name.lower()] = value.strip()
    return first, fields


async def pieces(reader, fields, until_close=False, most=PIECE):
    """The body of a message, in pieces of at most `most` bytes."""
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await line(reader)).split(b";")[0], 16):
            while size:
                piece = await exactly(reader, min(size, most))
                size -= len(piece)
                yield piece
            if await line(reader):
                raise Broken("a chunk is longer than its size says")
        while await line(reader):
            pass
    elif "content-length" in fields or not until_close:
        left = int(fields.get("content-length", 0))
        while left:
            piece = await exactly(reader, min(left, most))
            left -= len(piece)
            yield piece
    else:
        while piece := await patiently(reader.read(most)):
            yield piece


class Answer:
    """The head of an answer, and its body as it comes."""

    def __init__(self, reader, first, fields, method, most):
        version, status = first.split(" ")[:2]
        if version != "HTTP/1.1":
            raise Broken(f"not HTTP/1.1: {first!r}")
        self.status, self.fields = int(status), fields
        self.request_id = fields.get("x-request-id")
        without_body = method == "HEAD" or self.status in (204, 304) or self.status < 200
        self.pieces = pieces(reader, {} if without_body else fields, not without_body, most)

    async def body(self):
        return b"".join([piece async for piece in self.pieces])

    async def events(self):
        """The data of the events of an event stream. A stream may end only between two events."""
        rest = b""
        async for piece in self.pieces:
            *whole, rest = (rest + piece).split(b"\n\n")
            for event in whole:
                found = [text[5:].strip() for text in event.split(b"\n") if text.startswith(b"data:")]
                if data := b"\n".join(found):
                    yield data.decode()
        if rest.strip():
            raise Broken(f"an event stream ended within an event: {rest[:200]!r}")


class Connection:
    """A connection to the edge. Unless `host` is given, each has a host name of its own, which the edge logs. So the log tells which
    endpoint had a request even if no answer came that names the request's id."""

    numbers = itertools.count()

    def __init__(self, port, host=None, window=None, most=PIECE):
        self.port, self.window, self.most = port, window, most
        self.host, self.has_own = host, host is None
        self.writer = self.writing = None

    async def open(self):
        if self.writer is not None:
            return
        if self.has_own:
            self.host = f"c{next(self.numbers)}.soak.test"
        made = socket.socket()
        made.setblocking(False)
        if self.window:
            # With a small window, a slow reader slows the edge down, and does not only fill the buffers of this system.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.window)
        try:
            await patiently(asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.port)))
            self.reader, self.writer = await asyncio.open_connection(sock=made, limit=self.window or PIECE)
        except BaseException:
            made.close()
            raise

    def head(self, method, path, fields, body=None):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", *(f"{name}: {value}" for name, value in fields.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def write(self, data):
        try:
            self.writer.write(data)
            await patiently(self.writer.drain())
        except ConnectionError:
            # The edge may have answered before it closed the connection. Reading shows that.
            pass

    async def answer(self, method="GET"):
        return Answer(self.reader, *await read_head(self.reader), method, self.most)

    async def send(self, method, path, fields, body=None, framed=b""):
        """Sends a request, and returns the head of its answer. `framed`: a body that has its own framing."""
        await self.open()
        data = self.head(method, path, fields, body) + (body or framed)
        if len(data) <= PIECE:
            await self.write(data)
        else:
            # The answer may begin while the request is still being sent.
            self.writing = asyncio.create_task(self.write(data))
        answer = await self.answer(method)
        if answer.fields.get("connection", "").lower() == "close":
            answer.pieces = self.last(answer.pieces)
        return answer

    async def last(self, pieces):
        """The pieces of the last body on this connection."""
        async for piece in pieces:
            yield piece
        self.close()

    def close(self, reset=False):
        """Closes the connection. `reset`: without a goodbye, as a client that crashes."""
        writer, self.writer = self.writer, None
        if writer is None:
            return
        if self.writing is not None:
            self.writing.cancel()
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()


class WebSocket:
    """A WebSocket on a connection that has switched to it (RFC 6455)."""

    def __init__(self, connection):
        self.connection = connection

    @staticmethod
    def fields():
        key = base64.b64encode(os.urandom(16)).decode()
        return {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}

    @staticmethod
    def accept(key):
        return base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET).digest()).decode()

    async def send(self, payload):
        mask, count = os.urandom(4), len(payload)
        length = bytes([0x80 | count]) if count < 126 else struct.pack("!BH", 0xFE, count)
        key = (mask * (count // 4 + 1))[:count]
        masked = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(count)
        await self.connection.write(b"\x81" + length + mask + masked)

    async def receive(self):
        """The payload of the next message."""
        reader = self.connection.reader
        first, count = await exactly(reader, 2)
        if count == 126:
            (count,) = struct.unpack("!H", await exactly(reader, 2))
        if first != 0x81 or count > 65_535:
            raise Broken(f"not the frame of a text: {first:#x}, length {count}")
        return await exactly(reader, count)
