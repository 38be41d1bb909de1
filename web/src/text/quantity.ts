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

/** A number of cores or bytes as people say it: `0.25`, `1.5 GiB`. */
export function humanCores(cores: number): string {
  return String(Math.round(cores * 100) / 100);
}

export function humanBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 2 ** (10 * step);
  return `${value < 10 && step > 0 ? Math.round(value * 10) / 10 : Math.round(value)} ${units[step]}`;
}
