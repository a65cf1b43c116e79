// The TypeScript SDK 2.x with its OAuth client. On default settings it speaks 2025-11-25. With `auto` it tries 2026-07-28
// first.
import { Client, ProtocolError, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { User } from './user.mjs';

export { granted } from './user.mjs';
const user = new User();

export const isJsonRpcError = (error) => error instanceof ProtocolError;

export async function connect(url, auto) {
  let client, transport;

  /** Does the work, and once more after the user has authorized it, if that is needed. */
  const authorized = async (work) => {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
      await transport.finishAuth(user.comeBack());
      return work();
    }
  };

  await authorized(async () => {
    const options = { capabilities: { elicitation: {} } };
    if (auto) options.versionNegotiation = { mode: 'auto' };
    client = new Client({ name: 'sdks', version: '1.0.0' }, options);
    client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { name: 'Ada' } }));
    transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: user });
    await client.connect(transport);
  });

  return {
    revision: () => client.getNegotiatedProtocolVersion(),
    sessionId: () => transport.sessionId,
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: (name, args, report) => {
      const options = report && { onprogress: ({ progress }) => report(progress) };
      return authorized(() => client.callTool({ name, arguments: args }, options));
    },
    close: async () => {
      await transport.terminateSession();
      await client.close();
    },
  };
}
