// The dashboard in a real browser, against the built binary and a real cluster. Each case waits for
// states, never for time. Pictures go to $WASMORCH_SHOTS (default: target/shots).
//
//   node tests/browser.mjs [words]     all cases, or those whose name has the words
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

import { Cluster, root } from './cluster.mjs';
import { DESK, NARROWEST, PHONE, TABLET, accessible, cell, connection, drop, fits, healthy, review, row, shoot } from './page.mjs';

const cluster = new Cluster(process.env.WASMORCH_BIN ?? join(root, 'target/debug/wasmorch'));
const hello = readFileSync(join(root, 'guest-examples/prebuilt/hello-http.wasm'));
/** `(module (memory (export "memory") 0) (func (export "_start") unreachable))` */
const trap = Buffer.from('0061736d01000000010401600000030201000503010000071302066d656d6f72790200065f737461727400000a05010300000b', 'hex');
const WIDTHS = [DESK, TABLET, PHONE];

const cases = [];
/** `loud` is what the browser itself may write to the console meanwhile. */
const test = (name, run, loud = null) => cases.push({ name, run, loud });

test('the demo is healthy, in both themes, at every width, and readable for everyone', async (page) => {
  await healthy(page);
  await connection(page, 'live').waitFor();
  await review(page, 'overview', [...WIDTHS, NARROWEST]);
});

test('the token leaves the address bar', async (page) => {
  if (page.url().includes('token')) throw new Error(`the address still holds the token: ${page.url()}`);
});

test('a chosen theme is kept and wins over the system', async (page) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole('button', { name: 'Dark theme' }).click();
  if ((await ground()) === light) throw new Error('the page did not turn dark');
  await page.reload();
  if ((await ground()) === light) throw new Error('the dark theme was forgotten');
  await page.getByRole('button', { name: 'Light theme' }).click();
  await page.evaluate(() => localStorage.clear());
  await page.reload();
  await healthy(page);
});

test('the map is one stop for the keyboard, and a pod on it is found in the list', async (page) => {
  const cells = page.locator('[data-node="dev-1"] [data-testid="pod"]');
  await cells.first().focus();
  await page.keyboard.press('End');
  const name = await page.evaluate(() => document.activeElement.dataset.pod);
  if (name !== (await cells.last().getAttribute('data-pod'))) throw new Error(`the End key led to ${name}`);
  const stops = await page.locator('[data-node="dev-1"] [data-testid="pod"][tabindex="0"]').count();
  if (stops !== 1) throw new Error(`${stops} stops for the Tab key`);
  await shoot(page, 'siblings');
  await page.keyboard.press('Enter');
  await row(page, name).waitFor();
  await page.locator('[data-testid="pod-row"]').nth(1).waitFor({ state: 'detached' });
  await page.getByRole('searchbox').fill('no such pod');
  await page.getByText('match “no such pod”').waitFor();
  await page.getByRole('button', { name: 'Clear filter' }).click();
});

test('a deleted pod disappears and another one comes', async (page) => {
  const [victim] = (await cluster.api('GET', '/api/v1/namespaces/default/pods?labelSelector=app%3Dgateway')).items;
  const { name } = victim.metadata;
  await row(page, name).waitFor();
  await cell(page, name).waitFor();
  await cluster.api('DELETE', `/api/v1/namespaces/default/pods/${name}`);
  await row(page, name).waitFor({ state: 'detached', timeout: 60_000 });
  await cell(page, name).waitFor({ state: 'detached' });
  await healthy(page);
  await page.getByTestId('running').filter({ hasText: '13 of 13' }).waitFor();
});

test('a killed worker is seen on the map, and its return', async (page) => {
  const node = 'dev-2';
  await cluster.keepDown(node, async () => {
    await page.locator(`[data-node="${node}"][data-ready="false"]`).waitFor({ timeout: 30_000 });
    await page.getByTestId('health').filter({ hasText: `1 node not ready: ${node}` }).waitFor();
    await review(page, 'worker-killed', [DESK, PHONE]);
  });
  await page.locator(`[data-node="${node}"][data-ready="true"]`).waitFor({ timeout: 60_000 });
  await healthy(page);
});

test('a killed server leaves the picture, and the page goes on by itself', async (page) => {
  await page.evaluate(() => (window.notReloaded = true));
  const before = await page.getByTestId('pod-row').count();
  await cluster.keepDown('server', async () => {
    await connection(page, 'lost').waitFor({ timeout: 30_000 });
    await page.locator('main.stale').waitFor();
    const after = await page.getByTestId('pod-row').count();
    if (before === 0 || after !== before) throw new Error(`${before} pods before the server was gone, ${after} after`);
    await review(page, 'reconnecting', [DESK, PHONE]);
  });
  await connection(page, 'live').waitFor({ timeout: 60_000 });
  await healthy(page);
  await cluster.pod('default', 'after-the-restart', { containers: [{ name: 'main', image: 'nobody' }] });
  await row(page, 'after-the-restart').waitFor();
  await cluster.api('DELETE', '/api/v1/namespaces/default/pods/after-the-restart?gracePeriodSeconds=0');
  await row(page, 'after-the-restart').waitFor({ state: 'detached', timeout: 30_000 });
  if (!(await page.evaluate(() => window.notReloaded))) throw new Error('the page was loaded anew');
}, /WebSocket|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED_ENCODING/);

test('a server that hangs is noticed though its connections stay', async (page) => {
  await cluster.freeze('server', () => connection(page, 'lost').waitFor({ timeout: 60_000 }));
  await connection(page, 'live').waitFor({ timeout: 60_000 });
  await healthy(page);
}, /WebSocket/);

test('a dropped .wasm becomes a ready pod that answers', async (page) => {
  await drop(page, 'Hello Drop.wasm', hello);
  await page.getByTestId('upload').waitFor();
  await review(page, 'upload', [DESK, PHONE], false);
  await page.getByRole('button', { name: 'Upload and run' }).click();
  await page.getByTestId('upload-ready').waitFor({ timeout: 60_000 });
  await review(page, 'upload-ready', [DESK], false);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.locator('[data-testid="pod-row"][data-pod^="hello-drop-"]').first().waitFor();
  const answer = await cluster.until('an answer of the uploaded service', async () => {
    const { status, body } = await cluster.get('hello-drop.default.localhost');
    return status === 200 ? body : null;
  });
  if (!answer.startsWith('Hello from')) throw new Error(`the pod answered ${answer}`);
});

test('a file that is no wasm is refused with the reason', async (page) => {
  await drop(page, 'page.wasm', Buffer.from('<!DOCTYPE html><html></html>'));
  await page.getByRole('button', { name: 'Upload and run' }).click();
  const error = page.getByTestId('upload-error');
  await error.waitFor({ timeout: 10_000 });
  const text = await error.textContent();
  if (!/not WebAssembly/i.test(text)) throw new Error(`the error says: ${text}`);
  await review(page, 'upload-refused', [DESK, PHONE], false);
  await page.getByRole('button', { name: 'Cancel' }).click();
}, /status of (400|415|422)/);

test('a chosen namespace shows its own, an empty one what to do, and the address keeps it', async (page) => {
  await page.getByRole('combobox', { name: 'Namespace' }).selectOption('kube-system');
  await page.getByTestId('no-pods').filter({ hasText: 'No pods in kube-system' }).waitFor();
  await review(page, 'empty', [DESK, PHONE]);
  await page.reload();
  await page.getByTestId('no-pods').filter({ hasText: 'No pods in kube-system' }).waitFor();
  await page.getByRole('combobox', { name: 'Namespace' }).selectOption('');
  await healthy(page);
});

test('what goes wrong is told in the words of who found it', async (page) => {
  const pods = '/api/v1/namespaces/default/pods';
  const long = `a-service-with-a-name-as-long-as-names-may-be-${'x'.repeat(63)}.${'y'.repeat(63)}.${'z'.repeat(63)}`;
  await cluster.api('PUT', '/apis/wasmorch.dev/v1/namespaces/default/modules/trap/content?tag=v1', trap);
  await cluster.pod('default', 'trapped', { containers: [{ name: 'main', image: 'trap:v1' }] });
  await cluster.pod('default', 'greedy', { containers: [{ name: 'main', image: 'trap:v1', resources: { requests: { cpu: '1000' } } }] });
  await cluster.pod('default', long, { containers: [{ name: 'main', image: 'nobody:v1' }] });
  const reason = (name) => row(page, name).locator('xpath=following-sibling::tr[1]').and(page.getByTestId('pod-reason'));
  await row(page, 'trapped').filter({ hasText: 'CrashLoopBackOff' }).waitFor({ timeout: 60_000 });
  await reason('trapped').filter({ hasText: /unreachable/ }).waitFor();
  await row(page, 'greedy').filter({ hasText: '▲ Pending' }).waitFor({ timeout: 30_000 });
  await reason('greedy').filter({ hasText: /0\/3 nodes are available: .*cpu/i }).waitFor();
  await page.getByTestId('unplaced').filter({ hasText: 'nodes are available' }).waitFor();
  await row(page, long).filter({ hasText: 'ImagePullBackOff' }).waitFor({ timeout: 60_000 });
  await page.getByTestId('health').filter({ hasText: /failing:/ }).waitFor();
  await review(page, 'trouble', [...WIDTHS, NARROWEST]);
  for (const name of ['trapped', 'greedy', long]) {
    await cluster.api('DELETE', `${pods}/${name}?gracePeriodSeconds=0`);
    await row(page, name).waitFor({ state: 'detached', timeout: 30_000 });
  }
  await healthy(page);
});

test('three hundred pods, a thousand, and more than can be drawn', async (page) => {
  const nodes = ['claimed-1', 'claimed-2', 'claimed-3', 'claimed-4'];
  const apps = ['catalog', 'gateway', 'inventory', 'orders', 'payments', 'search'];
  const container = (state, ready) => [{ name: 'main', image: 'claimed:v1', imageID: '', ready, restartCount: 0, state }];
  const running = { phase: 'Running', containerStatuses: container({ running: { startedAt: new Date().toISOString() } }, true) };
  const crashing = { phase: 'Running', containerStatuses: container({ waiting: { reason: 'CrashLoopBackOff', message: 'back-off 40s' } }, false) };
  const of = (index) => ({
    name: `${apps[index % apps.length]}-${String(index).padStart(4, '0')}`,
    node: nodes[index % nodes.length],
    app: apps[index % apps.length],
    status: index % 97 === 96 ? crashing : running,
  });
  await cluster.api('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'many' } });
  await cluster.claimNodes(nodes);
  await page.getByRole('combobox', { name: 'Namespace' }).selectOption('many');
  for (const [from, to] of [[0, 300], [300, 1000], [1000, 1510]]) {
    await cluster.claimPods('many', from, to, of);
    const fine = Array.from({ length: to }, (_, index) => of(index)).filter(({ status }) => status === running).length;
    await page.getByTestId('running').filter({ hasText: `${fine} of ${to}` }).waitFor({ timeout: 60_000 });
    await page.locator('[data-ready="false"]').first().waitFor({ state: 'detached', timeout: 60_000 });
    await review(page, `pods-${to}`, [DESK, PHONE], to !== 1510);
    const drawn = await page.getByTestId('pod').count();
    if (drawn !== (to <= 1500 ? to : 0)) throw new Error(`${drawn} cells for ${to} pods`);
  }
  await cluster.api('DELETE', '/api/v1/namespaces/many/pods?gracePeriodSeconds=0');
  await page.getByTestId('no-pods').waitFor({ timeout: 120_000 });
  await cluster.forgetNodes(nodes);
  await page.locator('[data-node^="claimed"]').first().waitFor({ state: 'detached' });
  await page.getByRole('combobox', { name: 'Namespace' }).selectOption('');
  await healthy(page);
});

test('a wrong token is refused with a clear message', async (page) => {
  await page.evaluate(() => sessionStorage.clear());
  await page.reload();
  await page.getByLabel('Token').fill('not-a-token');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByTestId('sign-in-error').filter({ hasText: 'does not know this token' }).waitFor();
  await review(page, 'sign-in-wrong', [DESK, PHONE], false);
  await page.getByLabel('Token').fill(cluster.token());
  await page.getByRole('button', { name: 'Sign in' }).click();
  await healthy(page);
}, /status of 401/);

test('a token that ends while the page is open leads to the sign-in, with the reason', async (page) => {
  cluster.replaceToken('another-token');
  cluster.kill('server');
  await page.getByTestId('farewell').filter({ hasText: 'no longer accepts this token' }).waitFor({ timeout: 60_000 });
  await review(page, 'sign-in-again', [DESK], false);
  await page.getByLabel('Token').fill('another-token');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await healthy(page);
}, /status of 401|WebSocket|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/);

const wanted = process.argv.slice(2).join(' ');
let passed = 0;
let failed = 0;
let browser;
try {
  const address = await cluster.address();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = await browser.newPage({ viewport: DESK, colorScheme: 'light' });
  let problems = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.goto(address);
  for (const { name, run, loud } of cases.filter((one) => one.name.includes(wanted))) {
    const started = Date.now();
    try {
      await run(page);
      const unexpected = problems.filter((text) => !loud?.test(text));
      if (unexpected.length > 0) throw new Error(`on the console:\n${unexpected.join('\n')}`);
      passed += 1;
      console.log(`ok   ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}\n     ${String(error.message).replaceAll('\n', '\n     ')}`);
      await shoot(page, `failed-${failed}`);
      // The next case begins on a fresh page: what one left behind must not fail another.
      await page.goto('about:blank');
      await page.emulateMedia({ colorScheme: 'light' });
      await page.setViewportSize(DESK);
      await cluster.until('a server', () => page.goto(address.replace(/#.*/, `#token=${cluster.token()}`)).then(() => true, () => false));
    }
    problems = [];
  }
} catch (error) {
  failed += 1;
  console.log(`FAIL ${error.message}`);
} finally {
  await browser?.close();
  await cluster.stop();
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
