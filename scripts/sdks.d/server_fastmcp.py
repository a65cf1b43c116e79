"""`python server_fastmcp.py PORT`: a server with FastMCP (PyPI `fastmcp`), on default settings. It serves all revisions."""

import asyncio
import sys

import mcp_types
from fastmcp import Context, FastMCP
from pydantic import BaseModel

port = int(sys.argv[1])
server = FastMCP("sdks")


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


# FastMCP wants this in two ways: up to 2025-11-25 the server asks the client during the call. From 2026-07-28 on the call
# ends with the question, and the client calls again with the answer.
@server.tool()
async def ask(context: Context):
    if context.request_context.protocol_version < "2026-07-28":
        result = await context.elicit("What is your name?", Answer)
        return f"hello {result.data.name}" if result.action == "accept" else result.action
    if context.input_responses:
        return f"hello {context.input_responses['name'].content['name']}"
    params = mcp_types.ElicitRequestFormParams(message="What is your name?", requested_schema=Answer.model_json_schema())
    return mcp_types.InputRequiredResult(input_requests={"name": mcp_types.ElicitRequest(params=params)})


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


server.run(transport="http", port=port, show_banner=False)
