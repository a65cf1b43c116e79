"""MCP clients: sessions, requests without sessions, streams, and clients that leave in the middle of a call."""

import asyncio
import contextlib
import json
import random

from ledger import Failed, Over, Wrong
from mcp_client import META, Client, accept


async def session(traffic):
    """A session as clients up to revision 2025-11-25 have it, mostly with a GET stream beside it."""
    route = random.choice(["/pool/mcp", "/pool/mcp", "/resume/mcp", "/steady/mcp"])
    client = await Client.opened(traffic, "sessions", route)
    listening = asyncio.create_task(listen(client)) if random.random() < 0.7 else None
    try:
        await (client.tools("greet") if route == "/steady/mcp" else client.tools("slow_report", hidden="place_order"))
        for _ in range(random.randrange(2, 30)):
            await asyncio.sleep(random.uniform(0, 0.2))
            if route == "/steady/mcp":
                await client.greet()
            elif random.random() < 0.03:
                await client.tool("slow_report", {"seconds": 1})
            else:
                await client.prices()
        if random.random() < 0.8:
            await client.delete()
            if listening:
                await ends(client, listening)
    finally:
        if listening:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, Over):
                await listening
        client.close()


async def listen(client):
    """The GET stream of a session. Only comments come, which keep it open."""
    connection = client.traffic.connection()
    try:
        async with client.traffic.request("GET streams", f"GET {client.route}", connection, client.session) as exchange:
            if client.id is None:
                return
            answer = await connection.send("GET", client.route, client.fields())
            exchange.request_id = answer.request_id
            await accept(answer, 200, client.session)
            async for data in answer.events():
                raise Wrong(f"a message on a stream on which no message is sent: {data[:300]}")
            if client.id:
                # Where sessions can move, the streams at their old endpoint end.
                raise Failed("the stream of a session ended before the session", lost=True)
    finally:
        connection.close()


async def ends(client, listening):
    """The stream of a session ends with the session."""
    done, _ = await asyncio.wait([listening], timeout=5)
    if not done:
        home = client.traffic.ledger.home(client.session)
        text = f"the stream is still open 5 s after DELETE of its session, which {home} opened and {client.replica} served last"
        client.traffic.ledger.wrong("GET streams", f"GET {client.route}: {text}")


async def stateless(traffic):
    """Requests of revision 2026-07-28, each for itself, some of them on one connection."""
    route = random.choice(["/pool/mcp", "/pool/mcp", "/steady/mcp", "/raw/mcp"])
    client = Client(traffic, "stateless", route)
    try:
        for _ in range(random.randrange(1, 30)):
            client.token = random.choice(traffic.tokens)
            if random.random() < 0.1:
                await client.ask("server/discover", {}, lambda found: found["result"]["supportedVersions"])
            elif route == "/steady/mcp":
                await random.choice([Client.greet, resource, prompt, change])(client)
            elif random.random() < 0.2:
                await client.tools("slow_report", hidden="place_order" if route == "/pool/mcp" else None)
            else:
                await client.prices()
    finally:
        client.close()


async def resource(client):
    name = client.traffic.name()
    uri = f"test://template/{name}/data"

    def check(found):
        (contents,) = found["result"]["contents"]
        if contents["uri"] != uri or json.loads(contents["text"])["id"] != name:
            raise Wrong(f"another resource than {uri}: {contents}")

    await client.ask("resources/read", {"uri": uri}, check)


async def prompt(client):
    one, two = client.traffic.name(), client.traffic.name()

    def check(found):
        text = found["result"]["messages"][0]["content"]["text"]
        if text != f"Prompt with arguments: arg1='{one}', arg2='{two}'":
            raise Wrong(f"another prompt than for {one} and {two}: {text}")

    await client.ask("prompts/get", {"name": "test_prompt_with_arguments", "arguments": {"arg1": one, "arg2": two}}, check)


async def change(client):
    """Makes an event on all streams of `subscribed`."""
    await client.tool("test_trigger_tool_change", {})


async def stream(traffic):
    """Event streams that open and close all the time."""
    await random.choice([subscribed, progress])(traffic)


async def subscribed(traffic):
    """A stream without an end, which the client leaves."""
    client, id = Client(traffic, "MCP streams", "/steady/mcp"), traffic.name()
    try:
        async with client.exchange("subscriptions/listen") as exchange:
            answer = await client.post(exchange, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.05, 3)):
                    async for data in answer.events():
                        traffic.ledger.notes["events of subscriptions"] += 1
                        if json.loads(data)["params"]["_meta"][META + "subscriptionId"] != id:
                            raise Wrong(f"an event of another subscription than {id}: {data[:300]}")
                    raise Failed("a subscription ended by itself")
    finally:
        client.close(reset=random.random() < 0.3)


async def progress(traffic):
    """A stream with the progress of a call, up to its end."""
    client = Client(traffic, "MCP streams", "/pool/mcp")
    token, notes, steps = traffic.name(), [], random.randrange(2, 20)

    def check(found):
        seen = [(note["params"]["progressToken"], note["params"]["progress"]) for note in notes]
        if seen != [(token, float(step)) for step in range(1, steps + 1)] or found["result"]["isError"]:
            raise Wrong(f"not the progress of {token}: {seen}, {found}")

    params = {"name": "train_model", "arguments": {"steps": steps, "step_ms": 50}, "_meta": {"progressToken": token}}
    try:
        await client.ask("tools/call", params, check, notes)
    finally:
        client.close()


async def abandoned(traffic):
    """Clients that leave in the middle of a call. Their sessions go on, on other connections."""
    kind = "abandoned calls"
    if random.random() < 0.5:
        client = await Client.opened(traffic, kind, random.choice(["/pool/mcp", "/resume/mcp"]))
    else:
        client = Client(traffic, kind, "/pool/mcp")
    try:
        async with client.exchange("a call that is abandoned"):
            await client.connection.open()
            params = {"name": "slow_report", "arguments": {"seconds": random.randrange(1, 4)}}
            body = client.message("tools/call", params, traffic.name())
            head = client.connection.head("POST", client.route, client.fields("tools/call", "slow_report"), body)
            # Within the head, within the body, or while the tool runs.
            whole = len(head + body)
            end = random.choice([random.randrange(1, len(head)), random.randrange(len(head), whole), whole, whole])
            await client.connection.write((head + body)[:end])
            await asyncio.sleep(random.uniform(0, 1))
        client.close(reset=random.random() < 0.5)
        if client.session:
            await client.prices()
            await client.delete()
    finally:
        client.close()
