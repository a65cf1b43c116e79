"""The Python SDK 2.x, on default settings, with its OAuth client. It tries 2026-07-28 first."""

from contextlib import asynccontextmanager

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
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
        async with httpx2.AsyncClient() as browser:
            location = (await browser.get(url)).headers["location"]
        self.callback = httpx2.URL(location).params

    async def come_back(self):
        return AuthorizationCodeResult(**self.callback)


storage, user = Storage(), User()


async def answer(_context, _params):
    return ElicitResult(action="accept", content={"name": "Ada"})


class Connected:
    def __init__(self, client, headers):
        self.client, self.headers, self.revision = client, headers, client.protocol_version

    def session_id(self):
        return self.headers.get("mcp-session-id")

    async def tools(self):
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def call(self, tool, arguments, progress):
        async def report(value, _total, _message):
            progress(value)

        result = await self.client.call_tool(tool, arguments, progress_callback=report if progress else None)
        return result.is_error, result.content[0].text


@asynccontextmanager
async def connect(url):
    metadata = OAuthClientMetadata(client_name="sdks", redirect_uris=[REDIRECT])
    auth = OAuthClientProvider(url, metadata, storage, user.visit, user.come_back)
    headers = {}

    async def remember(response):
        headers.update(response.headers)

    async with create_mcp_http_client(auth=auth) as http:
        http.event_hooks = {"response": [remember]}
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, elicitation_callback=answer) as client:
            yield Connected(client, headers)
