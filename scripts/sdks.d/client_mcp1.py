"""The Python SDK 1.x, on default settings, with its OAuth client."""

from contextlib import asynccontextmanager

import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientMetadata
from mcp.types import ElicitResult

REDIRECT = "http://127.0.0.1:9/callback"
granted = []  # the scopes of the tokens, in the order of their issue


class Storage:
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        granted.append(tokens.scope)
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class User:
    """Follows the SDK to the authorization server, and gets the code there."""

    async def visit(self, url):
        async with httpx.AsyncClient() as browser:
            location = (await browser.get(url)).headers["location"]
        self.callback = httpx.URL(location).params

    async def come_back(self):
        return self.callback["code"], self.callback["state"]


storage, user = Storage(), User()


async def answer(_context, _params):
    return ElicitResult(action="accept", content={"name": "Ada"})


class Client:
    def __init__(self, session, revision, session_id):
        self.session, self.revision, self.session_id = session, revision, session_id

    async def tools(self):
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def call(self, tool, arguments, progress):
        async def report(value, _total, _message):
            progress(value)

        result = await self.session.call_tool(tool, arguments, progress_callback=report if progress else None)
        return result.isError, result.content[0].text


@asynccontextmanager
async def connect(url):
    metadata = OAuthClientMetadata(client_name="sdks", redirect_uris=[REDIRECT])
    auth = OAuthClientProvider(url, metadata, storage, user.visit, user.come_back)
    async with (
        create_mcp_http_client(auth=auth) as http,
        streamable_http_client(url, http_client=http) as (read, write, session_id),
        ClientSession(read, write, elicitation_callback=answer) as session,
    ):
        yield Client(session, (await session.initialize()).protocolVersion, session_id)
