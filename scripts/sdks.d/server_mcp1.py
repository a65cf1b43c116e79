"""`python server_mcp1.py PORT`: a server with the Python SDK 1.x (its FastMCP), on default settings."""

import asyncio
import sys

from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

port = int(sys.argv[1])
server = FastMCP("sdks", port=port)


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


@server.tool()
async def ask(context: Context) -> str:
    result = await context.elicit("What is your name?", Answer)
    return f"hello {result.data.name}" if result.action == "accept" else result.action


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


server.run(transport="streamable-http")
