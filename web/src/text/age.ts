// Times as people read them: `45s`, `3m20s`, `12m`, `5h`, `3d`. The same rule as `kubectl get`.

export function humanDuration(seconds: number): string {
  const s = Math.floor(seconds);
  const two = (large: number, unit: string, small: number, smallUnit: string) =>
    small === 0 ? `${large}${unit}` : `${large}${unit}${small}${smallUnit}`;
  if (s < 1) return '0s';
  if (s < 120) return `${s}s`;
  if (s < 600) return two(Math.floor(s / 60), 'm', s % 60, 's');
  if (s < 10_800) return `${Math.floor(s / 60)}m`;
  if (s < 28_800) return two(Math.floor(s / 3600), 'h', Math.floor(s / 60) % 60, 'm');
  if (s < 172_800) return `${Math.floor(s / 3600)}h`;
  if (s < 691_200) return two(Math.floor(s / 86_400), 'd', Math.floor(s / 3600) % 24, 'h');
  return `${Math.floor(s / 86_400)}d`;
}

export function age(since: string | null | undefined, now: number): string {
  if (!since) return '–';
  return humanDuration(Math.max(0, (now - Date.parse(since)) / 1000));
}
