// `node server_sdk2.mjs PORT`: a server with the TypeScript SDK 2.x, on default settings. It serves 2026-07-28, and older
// revisions without sessions.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, acceptedContent, createMcpHandler, inputRequired } from '@modelcontextprotocol/server';
import { z } from 'zod';

const port = Number(process.argv[2]);
const text = (value) => ({ content: [{ type: 'text', text: value }] });
const answer = z.object({ name: z.string() });

function createMcpServer() {
  const server = new McpServer({ name: 'sdks', version: '1.0.0' });
  server.registerTool('hello', { inputSchema: answer }, ({ name }) => text(`hello ${name} from ${port}`));
  server.registerTool('progress', { inputSchema: z.object({ steps: z.number() }) }, async ({ steps }, context) => {
    for (let step = 1; step <= steps; step++) {
      const progressToken = context.mcpReq._meta?.progressToken;
      await context.mcpReq.notify({
        method: 'notifications/progress',
        params: { progressToken, progress: step, total: steps },
      });
      await sleep(500);
    }
    return text(`${steps} steps`);
  });
  server.registerTool('ask', {}, (context) => {
    const accepted = acceptedContent(context.mcpReq.inputResponses, 'name', answer);
    if (accepted) return text(`hello ${accepted.name}`);
    const question = { message: 'What is your name?', requestedSchema: answer };
    return inputRequired({ inputRequests: { name: inputRequired.elicit(question) } });
  });
  server.registerTool('fails', {}, () => {
    throw new Error('this tool always fails');
  });
  server.registerTool('slow', { inputSchema: z.object({ seconds: z.number() }) }, async ({ seconds }) => {
    await sleep(seconds * 1000);
    return text('done');
  });
  server.registerTool('secret', {}, () => text('no client may see this'));
  server.registerTool('admin', {}, () => text('for administrators'));
  return server;
}

const validateHost = localhostHostValidation();
const validateOrigin = localhostOriginValidation();
const handle = toNodeHandler(createMcpHandler(createMcpServer));
createServer((request, response) => {
  if (validateHost(request, response) && validateOrigin(request, response)) void handle(request, response);
}).listen(port, '127.0.0.1');
