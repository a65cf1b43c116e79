// `node compare.js FOLDER REVISION...` compares the suite's results in FOLDER/REVISION/direct with those in
// FOLDER/REVISION/edge and FOLDER/REVISION/gateway, check by check. It exits with 1 if a result is worse through one of
// them, and with 2 if there is nothing to compare.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const PASSED = 'SUCCESS';
const FAILED = ['FAILURE', 'WARNING'];

/** The checks of each scenario, by their keys. */
function read(folder) {
  const scenarios = new Map();
  for (const entry of existsSync(folder) ? readdirSync(folder).sort() : []) {
    const scenario = /^server-(.+)-\d{4}-\d{2}-\d{2}T[\dZ-]+$/.exec(entry)?.[1];
    if (scenario) scenarios.set(scenario, checks(join(folder, entry, 'checks.json')));
  }
  return scenarios;
}

/** The key of a check is its id and name. If these occur several times in a scenario, a number is added in their order. */
function checks(file) {
  const found = new Map();
  // The checks of which the suite says that they do not apply here.
  found.notes = new Set();
  // The suite writes no file when a scenario itself fails.
  const list = existsSync(file)
    ? JSON.parse(readFileSync(file, 'utf8'))
    : [{ id: 'result', name: 'the scenario has no result', status: 'FAILURE' }];
  for (const check of list) {
    // These are notes, not checks. Their number depends on the requests and events.
    if (check.status === 'INFO') {
      found.notes.add(check.id);
      continue;
    }
    const title = check.id === check.name ? check.id : `${check.id} (${check.name})`;
    let key = title;
    for (let again = 2; found.has(key); again += 1) key = `${title} #${again}`;
    found.set(key, check);
  }
  return found;
}

const statuses = (checks) => [...(checks?.values() ?? [])].map((check) => check.status);
const passed = (checks) => statuses(checks).filter((status) => status === PASSED).length;
const failed = (checks) => statuses(checks).filter((status) => FAILED.includes(status)).length;
const counts = (checks) => (checks ? `${passed(checks)}/${passed(checks) + failed(checks)}` : 'missing');
const total = (scenarios, count) => [...scenarios.values()].reduce((sum, checks) => sum + count(checks), 0);

/** One line that says what is wrong with a check. */
function complaint(scenario, key, check) {
  const what = check ? check.status.toLowerCase() : 'missing';
  const message = check?.errorMessage?.split('\n')[0].slice(0, 400);
  return `  ${scenario}: ${key}: ${what}${message ? `: ${message}` : ''}`;
}

/** The ways through the edge. */
const WAYS = ['edge', 'gateway'];

/** The checks that pass directly but not on another way, and the checks that fail only there. */
function differences(direct, edge) {
  const found = [];
  for (const scenario of new Set([...direct.keys(), ...edge.keys()])) {
    const [before, after] = [direct.get(scenario) ?? new Map(), edge.get(scenario) ?? new Map()];
    for (const key of new Set([...before.keys(), ...after.keys()])) {
      const [was, is] = [before.get(key)?.status, after.get(key)?.status];
      // Where nothing was streamed, for example, streams are not checked. The suite notes that.
      const applies = is !== undefined || !after.notes?.has(before.get(key)?.id);
      const lost = was === PASSED && is !== PASSED && applies;
      const broken = FAILED.includes(is) && !FAILED.includes(was);
      if (lost || broken) found.push(complaint(scenario, key, after.get(key)));
    }
  }
  return found;
}

function table(revision, direct, others) {
  const ways = [direct, ...others];
  const rows = [...new Set(ways.flatMap((scenarios) => [...scenarios.keys()]))]
    .sort()
    .map((scenario) => [scenario, ...ways.map((scenarios) => counts(scenarios.get(scenario)))]);
  const sum = (scenarios) => `${total(scenarios, passed)}/${total(scenarios, passed) + total(scenarios, failed)}`;
  rows.unshift([`${revision}: checks passed`, 'direct', ...WAYS]);
  rows.push(['all', ...ways.map(sum)]);
  const width = Math.max(...rows.map(([scenario]) => scenario.length));
  return rows.map(([scenario, ...cells]) => [scenario.padEnd(width), ...cells.map((cell) => cell.padStart(8))].join(' '));
}

const [folder, ...revisions] = process.argv.slice(2);
if (revisions.length === 0) {
  console.error('usage: node compare.js FOLDER REVISION...');
  process.exit(2);
}
const different = [];
for (const revision of revisions) {
  const [direct, ...others] = ['direct', ...WAYS].map((way) => read(join(folder, revision, way)));
  if (total(direct, passed) === 0) {
    console.error(`compare: ${revision}: nothing passes direct: the server, not the edge, is what does not work`);
    process.exit(2);
  }
  console.log(`\n${table(revision, direct, others).join('\n')}`);
  const failing = [...direct].flatMap(([scenario, checks]) =>
    [...checks].filter(([, check]) => FAILED.includes(check.status)).map(([key, check]) => complaint(scenario, key, check)),
  );
  if (failing.length > 0) console.log(`\nfails direct too:\n${failing.join('\n')}`);
  for (const [index, other] of others.entries()) {
    const found = differences(direct, other);
    if (found.length > 0) different.push(`${revision}, ${WAYS[index]}:`, ...found);
  }
}
console.log(different.length > 0 ? `\nworse through the edge\n${different.join('\n')}` : '\nno difference');
process.exitCode = different.length > 0 ? 1 : 0;
