"""`python client.py mcp1|mcp2 direct|edge URL`: does all steps with one Python SDK, and prints a JSON line for each step.

Before a step that needs a replica to be killed or started, it prints `{"wait": STEP}` and goes on after a line on its standard
input. client.mjs does the same steps with the TypeScript SDKs.
"""

import asyncio
import importlib
import json
import sys
import time

sdk = importlib.import_module(f"client_{sys.argv[1]}")
through_edge = sys.argv[2] == "edge"
url = sys.argv[3]

LIMIT = 15  # seconds for one request
OPEN = {"hello", "progress", "ask", "fails", "slow"}
CLOSED = {"secret", "admin"}


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def describe(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def code_of(error):
    """The code of a JSON-RPC error."""
    return getattr(getattr(error, "error", None), "code", None)


class Connection:
    """A connection of the SDK. It has a task of its own, because a failure may end everything in its `async with`."""

    async def open(self):
        self.client = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()
        self.task = asyncio.create_task(self.run())
        self.client = await self.first(asyncio.shield(self.client))
        self.replica = None
        return self

    async def run(self):
        async with sdk.connect(url) as client:
            self.client.set_result(client)
            await self.closing.wait()

    async def first(self, work):
        """The result of the work, unless the connection ends before it."""
        work = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({work, self.task}, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
        if work not in done:
            work.cancel()
            check(self.task in done, f"no answer after {LIMIT} s")
            self.task.result()
            raise ConnectionError("the SDK has ended the connection")
        return work.result()

    async def call(self, tool, arguments=None, progress=None):
        return await self.first(self.client.call(tool, arguments or {}, progress))

    async def hello(self):
        failed, text = await self.call("hello", {"name": "Ada"})
        check(not failed and text.startswith("hello Ada from "), text)
        replica = text.split()[-1]
        if self.client.session_id():
            check(self.replica in (None, replica), f"a session on replica {self.replica} was answered by {replica}")
        self.replica = replica
        return replica

    async def error_code(self, tool, arguments=None):
        """Calls the tool, which must be answered with a JSON-RPC error."""
        try:
            result = await self.call(tool, arguments)
        except Exception as error:
            if code_of(error) is None:
                raise
            return code_of(error)
        raise AssertionError(f"no error, but {result}")

    async def close(self):
        self.closing.set()
        await asyncio.wait({self.task}, timeout=LIMIT)
        check(self.task.done(), f"not closed after {LIMIT} s")
        self.task.result()


async def connect(steps):
    steps.connection = await Connection().open()
    client = steps.connection.client
    return f"{client.revision}, {'session' if client.session_id() else 'no session'}"


async def list_tools(steps):
    tools = set(await steps.connection.first(steps.connection.client.tools()))
    expected = OPEN if through_edge else OPEN | CLOSED
    check(tools == expected, f"{sorted(tools)} instead of {sorted(expected)}")
    return f"{len(tools)} tools"


async def call(steps):
    replicas = {await steps.connection.hello() for _ in range(6)}
    return f"6 calls, {len(replicas)} replica(s)"


async def progress(steps, count=2):
    seen = []
    failed, text = await steps.connection.call("progress", {"steps": count}, seen.append)
    check(not failed and text == f"{count} steps", text)
    check(seen == list(range(1, count + 1)), f"progress {seen}")
    return f"{count} notifications"


async def long_call(steps):
    """Takes longer than the `timeout` of its tool, which starts again with each progress notification."""
    return await progress(steps, 10)


async def elicitation(steps):
    # Several times, because on 2026-07-28 the question and the answer are two requests, which may reach different replicas.
    for _ in range(4):
        failed, text = await steps.connection.call("ask")
        check(not failed and text == "hello Ada", text)
    return "4 times"


async def tool_error(steps):
    failed, text = await steps.connection.call("fails")
    check(failed, f"no error, but {text}")
    await steps.connection.hello()
    return text


async def denied(steps):
    code = await steps.connection.error_code("secret")
    check(code == -32602, f"code {code}")
    await steps.connection.hello()
    return "-32602, then a call"


async def deadline(steps):
    start = time.monotonic()
    code = await steps.connection.error_code("slow", {"seconds": 30})
    taken = time.monotonic() - start
    check(code == -32004, f"code {code}")
    check(taken < 10, f"after {taken:.1f} s")
    await steps.connection.hello()
    return "-32004, then a call"


async def step_up(steps):
    before = len(sdk.granted)
    failed, text = await steps.connection.call("admin")
    check(not failed and text == "for administrators", text)
    check(len(sdk.granted) == before + 1, f"the tokens were for {sdk.granted}")
    await steps.connection.hello()
    return f"{' > '.join(sdk.granted)}, then a call"


async def call_or_connect_again(steps):
    """What an application does that has lost its session: it connects again and repeats the call."""
    start = time.monotonic()
    try:
        await steps.connection.hello()
        return "same connection"
    except Exception as error:
        lost, taken = describe(error), time.monotonic() - start
    check(taken < 10, f"the loss of the session took {taken:.1f} s to show: {lost}")
    try:
        await steps.connection.close()
    except Exception:
        pass  # The connection is lost already.
    steps.connection = await Connection().open()
    await steps.connection.hello()
    return f"connected again after {lost}"


async def close(steps):
    await steps.connection.close()
    return ""


class Steps:
    connection = None

    async def run(self, name, step):
        try:
            line = {"step": name, "ok": True, "detail": await step(self)}
        except Exception as error:
            line = {"step": name, "ok": False, "detail": describe(error)}
        print(json.dumps(line), flush=True)
        if not line["ok"] and self.connection is not None and name != "close":
            # The next steps must not suffer from this failure.
            try:
                await self.connection.hello()
            except Exception:
                self.connection = await Connection().open()

    async def wait(self, name):
        print(json.dumps({"wait": name}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def main():
    steps = Steps()
    await steps.run("connect", connect)
    if steps.connection is None:
        return
    await steps.run("list", list_tools)
    await steps.run("call", call)
    await steps.run("progress", progress)
    await steps.run("elicitation", elicitation)
    await steps.run("tool error", tool_error)
    if through_edge:
        await steps.run("denied", denied)
        await steps.run("deadline", deadline)
        await steps.run("long call", long_call)
        await steps.run("step-up", step_up)
    await steps.wait("restart")
    await steps.run("restart", call_or_connect_again)
    if through_edge:
        await steps.wait("first killed")
        await steps.run("first killed", call_or_connect_again)
        await steps.wait("second killed")
        await steps.run("second killed", call_or_connect_again)
    await steps.run("close", close)


asyncio.run(main())
