// Names as far as a sentence can bear them. Names of one family begin alike and differ at the end, so
// the middle goes.

const LONGEST = 40;

export function shortName(name: string): string {
  if (name.length <= LONGEST) return name;
  const kept = Math.floor((LONGEST - 1) / 2);
  return `${name.slice(0, kept)}…${name.slice(-kept)}`;
}
