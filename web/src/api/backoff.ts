// How long to wait before the next try: half a second, doubling to ten, with up to a fifth of jitter
// so that many tabs do not return together.

export function delay(failures: number, jitter: number): number {
  const base = Math.min(500 * 2 ** Math.max(0, failures - 1), 10_000);
  return base * (1 + 0.2 * jitter);
}
