// `node client.mjs sdk1|sdk2|sdk2-auto direct|edge URL`: does all steps with one TypeScript SDK, and prints a JSON line for
// each step. The steps are those of client.py, which says more about them.
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const [name, mode, url] = process.argv.slice(2);
const sdk = await import(`./client_${name.replace('-auto', '')}.mjs`);
const throughEdge = mode === 'edge';

const LIMIT = 15_000; // of one request
const OPEN = ['hello', 'progress', 'ask', 'fails', 'slow'];
const CLOSED = ['secret', 'admin'];

function check(condition, what) {
  if (!condition) throw new Error(what);
}

const describe = (error) => `${error?.name}: ${error?.message ?? error}`.replace(/\s+/g, ' ').slice(0, 300);

/** A promise that is rejected after 15 s. */
function limited(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer after 15 s')), LIMIT);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

let connection;

async function open() {
  connection = await limited(sdk.connect(url, name.endsWith('-auto')));
}

async function call(tool, args = {}, onprogress = undefined) {
  const result = await limited(connection.call(tool, args, onprogress));
  return { failed: result.isError === true, text: result.content[0].text };
}

async function hello() {
  const { failed, text } = await call('hello', { name: 'Ada' });
  check(!failed && text.startsWith('hello Ada from '), text);
  const replica = text.split(' ').pop();
  if (connection.sessionId()) {
    const { replica: before = replica } = connection;
    check(before === replica, `a session on replica ${before} was answered by ${replica}`);
  }
  connection.replica = replica;
  return replica;
}

/** Calls the tool, which must be answered with a JSON-RPC error. */
async function errorCode(tool, args) {
  let result;
  try {
    result = await call(tool, args);
  } catch (error) {
    if (!sdk.isJsonRpcError(error)) throw error;
    return error.code;
  }
  throw new Error(`no error, but ${JSON.stringify(result)}`);
}

async function connect() {
  await open();
  return `${connection.revision()}, ${connection.sessionId() ? 'session' : 'no session'}`;
}

async function listTools() {
  const tools = (await limited(connection.tools())).sort();
  const expected = (throughEdge ? OPEN : [...OPEN, ...CLOSED]).sort();
  check(String(tools) === String(expected), `${tools} instead of ${expected}`);
  return `${tools.length} tools`;
}

async function calls() {
  const replicas = new Set();
  for (let i = 0; i < 6; i++) replicas.add(await hello());
  return `6 calls, ${replicas.size} replica(s)`;
}

async function progress(count = 2) {
  const seen = [];
  const { failed, text } = await call('progress', { steps: count }, (value) => seen.push(value));
  check(!failed && text === `${count} steps`, text);
  check(String(seen) === String(Array.from({ length: count }, (_, i) => i + 1)), `progress ${seen}`);
  return `${count} notifications`;
}

async function elicitation() {
  for (let i = 0; i < 4; i++) {
    const { failed, text } = await call('ask');
    check(!failed && text === 'hello Ada', text);
  }
  return '4 times';
}

async function toolError() {
  const { failed, text } = await call('fails');
  check(failed, `no error, but ${text}`);
  await hello();
  return text;
}

async function denied() {
  const code = await errorCode('secret');
  check(code === -32602, `code ${code}`);
  await hello();
  return '-32602, then a call';
}

async function deadline() {
  const start = Date.now();
  const code = await errorCode('slow', { seconds: 30 });
  const taken = Date.now() - start;
  check(code === -32004, `code ${code}`);
  check(taken < 10_000, `after ${taken} ms`);
  await hello();
  return '-32004, then a call';
}

async function stepUp() {
  const before = sdk.granted.length;
  const { failed, text } = await call('admin');
  check(!failed && text === 'for administrators', text);
  check(sdk.granted.length === before + 1, `the tokens were for ${sdk.granted}`);
  await hello();
  return `${sdk.granted.join(' > ')}, then a call`;
}

async function callOrConnectAgain() {
  const start = Date.now();
  let lost;
  try {
    await hello();
    return 'same connection';
  } catch (error) {
    lost = describe(error);
  }
  const taken = Date.now() - start;
  check(taken < 10_000, `the loss of the session took ${taken} ms to show: ${lost}`);
  await connection.close().catch(() => {}); // The connection is lost already.
  await open();
  await hello();
  return `connected again after ${lost}`;
}

async function close() {
  await limited(connection.close());
  return '';
}

async function run(step, work) {
  let line;
  try {
    line = { step, ok: true, detail: await work() };
  } catch (error) {
    line = { step, ok: false, detail: describe(error) };
  }
  console.log(JSON.stringify(line));
  // The next steps must not suffer from this failure.
  if (!line.ok && connection && step !== 'close') await hello().catch(open);
}

const lines = createInterface({ input: process.stdin });
async function wait(step) {
  console.log(JSON.stringify({ wait: step }));
  await once(lines, 'line');
}

await run('connect', connect);
if (connection) {
  await run('list', listTools);
  await run('call', calls);
  await run('progress', progress);
  await run('elicitation', elicitation);
  await run('tool error', toolError);
  if (throughEdge) {
    await run('denied', denied);
    await run('deadline', deadline);
    await run('long call', () => progress(10));
    await run('step-up', stepUp);
  }
  await wait('restart');
  await run('restart', callOrConnectAgain);
  if (throughEdge) {
    await wait('first killed');
    await run('first killed', callOrConnectAgain);
    await wait('second killed');
    await run('second killed', callOrConnectAgain);
  }
  await run('close', close);
}
// Streams and timers of lost connections must not keep the process.
process.exit(0);
