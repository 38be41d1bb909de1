// Kubernetes quantities as numbers, for bars: `250m` is 0.25, `64Mi` is 67108864.

const UNITS: Record<string, number> = {
  n: 1e-9, u: 1e-6, m: 1e-3, '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50,
};

export function quantity(text: string | undefined): number {
  const match = /^([0-9.]+)([A-Za-z]*)$/.exec(text ?? '');
  const unit = UNITS[match?.[2] ?? 'x'];
  return match && unit !== undefined ? Number(match[1]) * unit : 0;
}
