// `node server_sdk1.mjs PORT`: a server with the TypeScript SDK 1.x, on default settings, with sessions as its examples keep
// them.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';

const port = Number(process.argv[2]);
const text = (value) => ({ content: [{ type: 'text', text: value }] });

function createServer() {
  const server = new McpServer({ name: 'sdks', version: '1.0.0' });
  server.registerTool('hello', { inputSchema: { name: z.string() } }, ({ name }) => text(`hello ${name} from ${port}`));
  server.registerTool('progress', { inputSchema: { steps: z.number() } }, async ({ steps }, extra) => {
    for (let step = 1; step <= steps; step++) {
      const progressToken = extra._meta?.progressToken;
      await extra.sendNotification({
        method: 'notifications/progress',
        params: { progressToken, progress: step, total: steps },
      });
      await sleep(500);
    }
    return text(`${steps} steps`);
  });
  server.registerTool('ask', {}, async (extra) => {
    const params = {
      message: 'What is your name?',
      requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] },
    };
    // `relatedRequestId` sends the question on the response stream of the call.
    const result = await server.server.elicitInput(params, { relatedRequestId: extra.requestId });
    return text(result.action === 'accept' ? `hello ${result.content.name}` : result.action);
  });
  server.registerTool('fails', {}, () => {
    throw new Error('this tool always fails');
  });
  server.registerTool('slow', { inputSchema: { seconds: z.number() } }, async ({ seconds }) => {
    await sleep(seconds * 1000);
    return text('done');
  });
  server.registerTool('secret', {}, () => text('no client may see this'));
  server.registerTool('admin', {}, () => text('for administrators'));
  return server;
}

const sessions = new Map();
const app = createMcpExpressApp();
app.all('/mcp', async (request, response) => {
  const id = request.headers['mcp-session-id'];
  let transport = sessions.get(id);
  if (!id && isInitializeRequest(request.body)) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (opened) => sessions.set(opened, transport),
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await createServer().connect(transport);
  }
  if (transport) return transport.handleRequest(request, response, request.body);
  const [status, code, message] = id ? [404, -32001, 'Session not found'] : [400, -32000, 'No session id'];
  response.status(status).json({ jsonrpc: '2.0', error: { code, message }, id: null });
});
app.listen(port, '127.0.0.1');
