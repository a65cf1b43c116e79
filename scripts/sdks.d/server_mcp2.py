"""`python server_mcp2.py PORT`: a server with the Python SDK 2.x, on default settings. It serves all revisions."""

import asyncio
import sys
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import BaseModel

port = int(sys.argv[1])
server = MCPServer("sdks")


class Answer(BaseModel):
    name: str


@server.tool()
def hello(name: str) -> str:
    """Says which replica has answered."""
    return f"hello {name} from {port}"


@server.tool()
async def progress(steps: int, context: Context) -> str:
    for step in range(1, steps + 1):
        await context.report_progress(step, steps)
        await asyncio.sleep(0.5)
    return f"{steps} steps"


def ask_name() -> Elicit[Answer]:
    return Elicit("What is your name?", Answer)


@server.tool()
def ask(answer: Annotated[Answer, Resolve(ask_name)]) -> str:
    return f"hello {answer.name}"


@server.tool()
def fails() -> str:
    raise ValueError("this tool always fails")


@server.tool()
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@server.tool()
def secret() -> str:
    return "no client may see this"


@server.tool()
def admin() -> str:
    return "for administrators"


server.run(transport="streamable-http", port=port)
