"""Requests that must be refused, always and in the same way."""

import asyncio
import random
import re

from ledger import Wrong
from mcp_client import LEGACY, STATELESS, Client, accept, response

KIND = "refused"
# The codes for a denied tool, which are those for a tool that does not exist, and for an unknown session.
UNKNOWN_TOOL, UNKNOWN_SESSION = -32602, -32001
LINE = b"GET /open/bytes?id=x&count=1 HTTP/1.1\r\n"
POST = b"POST /open/echo?id=x HTTP/1.1\r\nHost: HOST\r\n"
# Requests that two servers could read in two ways, or that are not HTTP/1.1. HOST stands for the host name of the connection.
MALFORMED = [
    LINE + b"\r\n",
    LINE + b"Host: HOST\r\nHost: HOST\r\n\r\n",
    LINE + b"Host : HOST\r\n\r\n",
    LINE + b"Host: HOST\r\nX-Folded: a\r\n b\r\n\r\n",
    LINE + b"Host: HOST\r\nX-Nul: a\0b\r\n\r\n",
    LINE.replace(b"1.1", b"9.9") + b"Host: HOST\r\n\r\n",
    LINE.replace(b"/open/", b"/open/../open/") + b"Host: HOST\r\n\r\n",
    LINE.replace(b"/open/", b"/open/%2e%2e/") + b"Host: HOST\r\n\r\n",
    POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    POST + b"Content-Length: +4\r\n\r\nabcd",
    POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n",
]
# Bodies that are not one MCP message.
BAD_MESSAGES = [b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}', b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}',
                b"[" * 100, b"\xff\xfe", b"hello"]


async def refused(traffic):
    kinds = [no_token, bad_token, no_scope, denied_tool, denied_tool_in_a_session, malformed, unknown_session, anothers_session,
             bad_message, too_large, nowhere, web_page]
    await random.choice(kinds)(traffic)


def client(traffic, route="/pool/mcp", version=STATELESS):
    return Client(traffic, KIND, route, version)


async def refuse(client, wanted, what, fields=None, body=None, code=None):
    """Sends a `tools/call` that must get this status, and no result. `code`: the code of the JSON-RPC error."""
    try:
        async with client.exchange(what) as exchange:
            params = {"name": "slow_report", "arguments": {"seconds": 0}}
            body = body or client.message("tools/call", params, client.traffic.name())
            fields = {**client.fields("tools/call", "slow_report"), **(fields or {})}
            answer = await client.connection.send("POST", client.route, fields, body)
            exchange.request_id = answer.request_id
            text = await answer.body()
            if answer.status != wanted or b'"result"' in text:
                raise Wrong(f"{answer.status} {text[:300]!r} instead of {wanted}")
            if wanted == 401 and "www-authenticate" not in answer.fields:
                raise Wrong("a 401 without WWW-Authenticate")
            if code and f'"code":{code}'.encode() not in text:
                raise Wrong(f"{text[:300]!r} instead of the code {code}")
    finally:
        client.close()


async def no_token(traffic):
    await refuse(client(traffic), 401, "no token", {"Authorization": ""})


async def bad_token(traffic):
    what, token = random.choice(list(traffic.bad_tokens.items()))
    await refuse(client(traffic), 401, f"a bad token ({what})", {"Authorization": f"Bearer {token}"})


async def no_scope(traffic):
    await refuse(client(traffic), 403, "a token without the scope", {"Authorization": f"Bearer {traffic.scopeless}"})


async def denied_tool(traffic):
    await deny(client(traffic))


async def denied_tool_in_a_session(traffic):
    opened = await Client.opened(traffic, KIND, "/pool/mcp")
    await deny(opened)
    await opened.delete()
    opened.close()


async def deny(client):
    id, params = client.traffic.name(), {"name": "place_order", "arguments": {"ticker": "X", "side": "buy", "quantity": 1}}
    try:
        async with client.exchange("a denied tool") as exchange:
            found = await response(await client.post(exchange, "tools/call", params, id), id)
            if "result" in found or found["error"]["code"] != UNKNOWN_TOOL:
                raise Wrong(f"a denied tool was not refused: {found}")
    finally:
        client.close()


async def malformed(traffic):
    """The edge cannot know where the next request begins. So it must not answer that one, and must close the connection."""
    connection, data = traffic.connection(), random.choice(MALFORMED)
    try:
        async with traffic.request(KIND, f"malformed: {data!r}", connection):
            await connection.open()
            second = connection.head("GET", "/open/bytes?id=second&count=1", {})
            await connection.write(data.replace(b"HOST", connection.host.encode()) + second)
            answered = b""
            try:
                async with asyncio.timeout(10):
                    while piece := await connection.reader.read(1 << 16):
                        answered += piece
            except TimeoutError as error:
                raise Wrong(f"the connection is still open after 10 s: {answered[:500]!r}") from error
            if re.findall(rb"HTTP/1\.1 (\d+)", answered) not in ([], [b"400"]):
                raise Wrong(f"not one 400: {answered[:500]!r}")
    finally:
        connection.close()


async def unknown_session(traffic):
    one = client(traffic, random.choice(["/pool/mcp", "/resume/mcp", "/steady/mcp"]), random.choice(LEGACY))
    one.id = random.choice(["abc", "k7HX" * 25, "0b9f3c1e-3b1c-4f3a-8f0e-6d1f0c5a7b11"])
    await refuse(one, 404, "a session that was made up", code=UNKNOWN_SESSION)


async def anothers_session(traffic):
    """The session of another caller, or of another route."""
    owner = await Client.opened(traffic, KIND, "/pool/mcp")
    try:
        thief = client(traffic, random.choice(["/pool/mcp", "/resume/mcp"]), owner.version)
        thief.token = traffic.other_token if thief.route == owner.route else owner.token
        thief.id = owner.id
        await refuse(thief, 404, "the session of another", code=UNKNOWN_SESSION)
        await owner.delete()
    finally:
        owner.close()


async def bad_message(traffic):
    body = random.choice(BAD_MESSAGES)
    await refuse(client(traffic), 400, f"a bad message, {body[:40]!r}", body=body)


async def too_large(traffic):
    wanted, what, fields, body = random.choice([
        (413, "a body that is too large", {}, b"x" * (2 << 20 | 1)),
        (431, "a field that is too large", {"X-Large": "x" * (65 << 10)}, None),
        (431, "too many fields", {f"X-{number}": "x" for number in range(101)}, None),
    ])
    await refuse(client(traffic), wanted, what, fields, body)


async def nowhere(traffic):
    """A path that no route has, and a route without a protocol that needs a token."""
    connection = traffic.connection()
    wanted, path = random.choice([(404, "/nowhere"), (401, "/opaque/bytes?id=x&count=1")])
    try:
        async with traffic.request(KIND, f"GET {path}", connection) as exchange:
            answer = await connection.send("GET", path, {})
            exchange.request_id = answer.request_id
            await accept(answer, wanted)
            await answer.body()
    finally:
        connection.close()


async def web_page(traffic):
    await refuse(client(traffic), 403, "a web page of another origin", {"Origin": "https://evil.example"})
