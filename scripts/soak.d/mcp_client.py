"""An MCP client on one connection, in a session or without one."""

import json
import random

from ledger import Failed, Session, Wrong

STATELESS = "2026-07-28"
LEGACY = ["2025-03-26", "2025-06-18", "2025-11-25"]
META = "io.modelcontextprotocol/"
# The codes with which the edge says, in an event stream that has begun, that a replica is gone.
REPLICA_GONE = {-32002, -32003}


async def accept(answer, wanted, session=None):
    """Raises an error unless the status is the wanted one."""
    if answer.status == wanted:
        return
    text = f"{answer.status} {(await answer.body())[:300]!r}"
    lost = answer.status == 404 and session is not None
    if answer.status in (502, 503) or lost:
        raise Failed(text, lost)
    raise Wrong(f"not the status {wanted}: {text}")


async def response(answer, id, notes=None):
    """The JSON-RPC response to `id`, from JSON or an event stream. `notes` gets the notifications that come with it: without `notes`,
    none may come."""
    if answer.fields.get("content-type", "").startswith("text/event-stream"):
        found = None
        async for data in answer.events():
            message = json.loads(data)
            if message.get("id") == id and "method" not in message and found is None:
                found = message
            elif "method" in message and "id" not in message and notes is not None:
                notes.append(message)
            else:
                raise Wrong(f"the answer to {id} contains another message: {data[:300]}")
        if found is None:
            raise Failed(f"the stream ended without the answer to {id}")
    else:
        found = json.loads(await answer.body())
        if found.get("id") != id:
            raise Wrong(f"not the answer to {id}: {str(found)[:300]}")
    if found.get("error", {}).get("code") in REPLICA_GONE:
        raise Failed(f"an error instead of an answer: {found['error']}")
    return found


class Client:
    def __init__(self, traffic, kind, route, version=STATELESS, session=None):
        self.traffic, self.kind, self.route, self.version, self.session = traffic, kind, route, version, session
        self.connection, self.token = traffic.connection(), random.choice(traffic.tokens)
        # The id of the session, and the replica that serves it.
        self.id = self.replica = None

    @staticmethod
    async def opened(traffic, kind, route):
        """A client with a new session."""
        client = Client(traffic, kind, route, random.choice(LEGACY), Session())
        info = {"protocolVersion": client.version, "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}
        await client.ask("initialize", info, lambda found: found["result"]["protocolVersion"])
        async with client.exchange("notifications/initialized") as exchange:
            await client.post(exchange, "notifications/initialized", {})
        return client

    def fields(self, method=None, name=None):
        fields = {"Authorization": f"Bearer {self.token}", "Accept": "application/json, text/event-stream",
                  "Content-Type": "application/json"}
        if method != "initialize":
            fields["MCP-Protocol-Version"] = self.version
        if self.id:
            fields["Mcp-Session-Id"] = self.id
        if self.version == STATELESS:
            fields["Mcp-Method"] = method
            if name:
                fields["Mcp-Name"] = name
        return fields

    def message(self, method, params, id=None):
        if self.version == STATELESS:
            meta = {META + "protocolVersion": STATELESS, META + "clientCapabilities": {}}
            params = {**params, "_meta": {**params.get("_meta", {}), **meta}}
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        return json.dumps({**message, "id": id} if id else message, separators=(",", ":")).encode()

    def exchange(self, what):
        return self.traffic.request(self.kind, f"{what} on {self.route}", self.connection, self.session)

    async def post(self, exchange, method, params, id=None):
        """Sends a message. Returns the head of the answer, if its status is right."""
        name = params.get("name") or params.get("uri")
        answer = await self.connection.send("POST", self.route, self.fields(method, name), self.message(method, params, id))
        exchange.request_id = answer.request_id
        await accept(answer, 200 if id else 202, self.session)
        return answer

    async def ask(self, method, params, check, notes=None):
        """Sends a request. `check` is called with the response to it."""
        id = self.traffic.name()
        async with self.exchange(f"{method} {params.get('name', '')}".strip()) as exchange:
            answer = await self.post(exchange, method, params, id)
            check(await response(answer, id, notes))
            if method == "initialize":
                self.id, self.session.opened_by = answer.fields["mcp-session-id"], answer.request_id

    async def tool(self, name, arguments, check=lambda text: None):
        """Calls a tool that must work. `check` is called with the text of the result."""

        def checked(found):
            result = found["result"]
            if result["isError"]:
                raise Wrong(f"the tool {name} failed: {result}")
            self.served_by(result["_meta"]["replica"])
            check(result["content"][0]["text"])

        await self.ask("tools/call", {"name": name, "arguments": arguments}, checked)

    def served_by(self, replica):
        """All requests of a session go to one replica, unless the edge may open the session again on another one."""
        before, self.replica = self.replica, replica
        if self.session is None or before in (None, replica):
            return
        if not self.route.startswith("/resume/"):
            raise Wrong(f"a session of {before} was served by {replica}")
        self.traffic.ledger.notes["sessions that went on at another replica"] += 1

    async def prices(self):
        """A call whose answer names what the request has named."""
        ticker = self.traffic.name()

        def check(text):
            named = json.loads(text)["ticker"] if text.startswith("{") else text.split("\n")[0]
            if named != ticker:
                raise Wrong(f"the answer for another ticker: {named}, not {ticker}")

        arguments = {"ticker": ticker, "from": "2026-01-01", "to": f"2026-01-{random.randrange(1, 29):02}", "timespan": "day"}
        await self.tool(random.choice(["get_stock_aggregates", "print_stock_data"]), arguments, check)

    async def greet(self):
        name = self.traffic.name()

        def check(text):
            if text != f"Hello, {name}!":
                raise Wrong(f"the greeting of another: {text!r}, not {name}")

        await self.tool("greet", {"name": name}, check)

    async def tools(self, shown, hidden=None):
        """Lists the tools. The list must contain the first one, and not the second."""

        def check(found):
            names = {tool["name"] for tool in found["result"]["tools"]}
            if shown not in names or hidden in names:
                raise Wrong(f"a wrong list of tools: {names}")

        await self.ask("tools/list", {}, check)

    async def delete(self):
        """Ends the session. Afterwards, nobody serves it any more."""
        id, self.id = self.id, None
        async with self.exchange("DELETE") as exchange:
            answer = await self.connection.send("DELETE", self.route, {**self.fields(), "Mcp-Session-Id": id})
            exchange.request_id = answer.request_id
            if answer.status not in (200, 204):
                await accept(answer, 202, self.session)
            await answer.body()
        if random.random() < 0.7:
            return
        async with self.exchange("a request after DELETE") as exchange:
            fields, message = {**self.fields("ping"), "Mcp-Session-Id": id}, self.message("ping", {}, self.traffic.name())
            answer = await self.connection.send("POST", self.route, fields, message)
            exchange.request_id = answer.request_id
            await accept(answer, 404)
            await answer.body()

    def close(self, reset=False):
        self.connection.close(reset)
