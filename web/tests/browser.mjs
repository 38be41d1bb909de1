// The dashboard in a real browser, against the built binary and a real cluster: a healthy demo in
// both themes, a worker killed for real, a dropped .wasm that becomes a ready pod, and one that is
// refused. Screenshots go to $WASMORCH_SHOTS (default: target/shots).
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const root = new URL('../../', import.meta.url).pathname;
const binary = process.env.WASMORCH_BIN ?? join(root, 'target/debug/wasmorch');
const shots = process.env.WASMORCH_SHOTS ?? join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'shots');
const axeSource = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const directory = mkdtempSync(join(tmpdir(), 'wasmorch-browser-'));
mkdirSync(shots, { recursive: true });

const cluster = spawn(
  binary,
  ['dev', '--demo', '--dir', join(directory, 'cluster'), '--port', '0', '--https-port', '0', '--ingress-port', '0'],
  { stdio: ['ignore', 'pipe', 'pipe'] },
);
let said = '';
cluster.stdout.on('data', (chunk) => (said += chunk));
cluster.stderr.on('data', (chunk) => (said += chunk));
const ended = new Promise((resolve) => cluster.on('exit', resolve));

async function until(what, check, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (cluster.exitCode !== null) throw new Error(`the cluster ended while waiting for ${what}:\n${said}`);
    if (Date.now() > deadline) throw new Error(`no ${what} after ${seconds} s:\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const state = () => JSON.parse(readFileSync(join(directory, 'cluster/dev.json'), 'utf8'));

function get(url, host) {
  return new Promise((resolve) => {
    const request = http.get(url, { headers: { host } }, (response) => {
      let body = '';
      response.on('data', (chunk) => (body += chunk));
      response.on('end', () => resolve({ status: response.statusCode, body }));
    });
    request.on('error', () => resolve({ status: 0, body: '' }));
  });
}

const cases = [];
const test = (name, run) => cases.push({ name, run });

async function accessible(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() =>
    window.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }),
  );
  const found = violations.map((v) => `${v.id}: ${v.help} (${v.nodes.map((n) => n.target.join(' ')).join(', ')})`);
  if (found.length > 0) throw new Error(`accessibility:\n${found.join('\n')}`);
}

function drop(page, name, bytes) {
  return page.evaluate(
    ([fileName, content]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(content)], fileName, { type: 'application/wasm' }));
      window.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    },
    [name, [...bytes]],
  );
}

test('the demo is healthy, in both themes, and readable for everyone', async (page) => {
  await page.getByTestId('health').filter({ hasText: 'Healthy' }).waitFor({ timeout: 60_000 });
  for (const theme of ['light', 'dark']) {
    if ((await page.evaluate(() => document.documentElement.dataset.theme)) !== theme) {
      await page.getByRole('button', { name: theme === 'dark' ? 'Dark theme' : 'Light theme' }).click();
    }
    await page.screenshot({ path: join(shots, `overview-${theme}.png`), fullPage: true });
    await accessible(page);
  }
});

test('the token leaves the address bar', async (page) => {
  if (page.url().includes('token')) throw new Error(`the address still holds the token: ${page.url()}`);
});

test('a killed worker is seen on the map, and its return', async (page) => {
  const node = 'dev-2';
  process.kill(state().processes[node], 'SIGKILL');
  await page.locator(`[data-node="${node}"][data-ready="false"]`).waitFor({ timeout: 20_000 });
  await page.screenshot({ path: join(shots, 'worker-killed.png'), fullPage: true });
  await page.locator(`[data-node="${node}"][data-ready="true"]`).waitFor({ timeout: 30_000 });
  await page.getByTestId('health').filter({ hasText: 'Healthy' }).waitFor({ timeout: 60_000 });
});

test('a dropped .wasm becomes a ready pod that answers', async (page) => {
  await drop(page, 'Hello Drop.wasm', readFileSync(join(root, 'guest-examples/prebuilt/hello-http.wasm')));
  await page.getByTestId('upload').waitFor();
  await page.screenshot({ path: join(shots, 'upload.png') });
  await accessible(page);
  await page.getByRole('button', { name: 'Upload and run' }).click();
  await page.getByTestId('upload-ready').waitFor({ timeout: 30_000 });
  await page.screenshot({ path: join(shots, 'upload-ready.png') });
  await page.getByRole('button', { name: 'Done' }).click();
  await page.locator('[data-testid="pod-row"][data-pod^="hello-drop-"]').first().waitFor();
  const answer = await until('an answer of the uploaded service', async () => {
    const { status, body } = await get(state().ingress, 'hello-drop.default.localhost');
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
  await page.screenshot({ path: join(shots, 'upload-refused.png') });
  await page.getByRole('button', { name: 'Cancel' }).click();
});

test('a phone shows it without scrolling sideways', async (page) => {
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  await page.screenshot({ path: join(shots, 'phone.png'), fullPage: true });
  if (wide) throw new Error('the page is wider than the screen');
});

let failed = 0;
let browser;
try {
  const address = await until('dashboard address', () => /Dashboard\s+(http:\S+)/.exec(said)?.[1], 120);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: 'light' });
  const problems = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.goto(address);
  for (const { name, run } of cases) {
    try {
      await run(page);
      console.log(`ok   ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}\n     ${String(error.message).replaceAll('\n', '\n     ')}`);
      await page.screenshot({ path: join(shots, `failed-${failed}.png`), fullPage: true });
    }
  }
  const unexpected = problems.filter((text) => !/status of (400|415|422)|WebSocket/.test(text));
  if (unexpected.length > 0) {
    failed += 1;
    console.log(`FAIL no errors on the console\n     ${unexpected.join('\n     ')}`);
  }
} catch (error) {
  failed += 1;
  console.log(`FAIL ${error.message}`);
} finally {
  await browser?.close();
  cluster.kill('SIGTERM');
  await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 15_000))]);
  if (cluster.exitCode === null) cluster.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
}
console.log(`${cases.length - Math.min(failed, cases.length)} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
