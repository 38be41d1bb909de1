// What the cases do with a page: look at it in both themes and several widths, and ask axe about it.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { root } from './cluster.mjs';

const shots = process.env.WASMORCH_SHOTS ?? join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'shots');
const axeSource = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
mkdirSync(shots, { recursive: true });

export const DESK = { width: 1440, height: 900 };
export const TABLET = { width: 1000, height: 800 };
export const PHONE = { width: 390, height: 844 };
export const NARROWEST = { width: 320, height: 640 };

export function shoot(page, name, fullPage = true) {
  return page.screenshot({ path: join(shots, `${name}.png`), fullPage, animations: 'disabled' });
}

export async function accessible(page) {
  await page.evaluate(axeSource);
  // Only the complaints come back: all that axe has seen of a thousand pods would be megabytes.
  const found = await page.evaluate(async () => {
    const runOnly = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await window.axe.run({ runOnly, resultTypes: ['violations'] });
    return violations.map((v) => `${v.id}: ${v.help} (${v.nodes.slice(0, 5).map((n) => n.target.join(' ')).join(', ')})`);
  });
  if (found.length > 0) throw new Error(`accessibility:\n${found.join('\n')}`);
}

export async function fits(page) {
  const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  if (wide > width) throw new Error(`the page is ${wide} px wide on a screen of ${width}`);
}

/** Both themes at each width: a picture, no sideways scrolling, nothing that axe objects to. */
export async function review(page, name, sizes = [DESK], fullPage = true) {
  await page.evaluate(() => scrollTo(0, 0));
  for (const size of sizes) {
    await page.setViewportSize(size);
    for (const theme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: theme });
      await fits(page);
      await shoot(page, `${name}-${size.width}-${theme}`, fullPage);
      await accessible(page);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(DESK);
}

export function drop(page, name, bytes) {
  return page.evaluate(
    ([fileName, content]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(content)], fileName, { type: 'application/wasm' }));
      window.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    },
    [name, [...bytes]],
  );
}

/** Nothing is wrong, and nothing is on its way out either. */
export async function healthy(page) {
  await page.getByTestId('running').filter({ hasText: /^(\d+) of \1 running$/ }).waitFor({ timeout: 90_000 });
  await page.getByTestId('health').filter({ hasText: 'Healthy' }).waitFor({ timeout: 90_000 });
}

export const row = (page, pod) => page.locator(`[data-testid="pod-row"][data-pod="${pod}"]`);
export const cell = (page, pod) => page.locator(`[data-testid="pod"][data-pod="${pod}"]`);
export const connection = (page, state) => page.locator(`[data-testid="connection"][data-state="${state}"]`);
