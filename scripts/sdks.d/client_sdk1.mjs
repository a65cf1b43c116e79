// The TypeScript SDK 1.x, on default settings, with its OAuth client.
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema, McpError } from '@modelcontextprotocol/sdk/types.js';
import { User } from './user.mjs';

export { granted } from './user.mjs';
const user = new User();

export const isJsonRpcError = (error) => error instanceof McpError;

export async function connect(url) {
  let client, transport;

  /** Does the work, and once more after the user has authorized it, if that is needed. */
  const authorized = async (work) => {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
      await transport.finishAuth(user.comeBack().get('code'));
      return work();
    }
  };

  await authorized(async () => {
    client = new Client({ name: 'sdks', version: '1.0.0' }, { capabilities: { elicitation: {} } });
    client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { name: 'Ada' } }));
    transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: user });
    await client.connect(transport);
  });

  return {
    revision: () => transport.protocolVersion,
    sessionId: () => transport.sessionId,
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: (name, args, report) => {
      const options = report && { onprogress: ({ progress }) => report(progress) };
      return authorized(() => client.callTool({ name, arguments: args }, undefined, options));
    },
    close: async () => {
      await transport.terminateSession();
      await client.close();
    },
  };
}
