// The system's theme until the user chooses; the choice is remembered.

export type Theme = 'light' | 'dark';

const KEY = 'wasmorch.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

function chosen(): Theme | null {
  const kept = localStorage.getItem(KEY);
  return kept === 'light' || kept === 'dark' ? kept : null;
}

export function theme(): Theme {
  return chosen() ?? (system.matches ? 'dark' : 'light');
}

export function choose(value: Theme): void {
  localStorage.setItem(KEY, value);
  show();
}

/** Calls back when the system's theme changes; gives the way to stop. */
export function onSystemChange(then: () => void): () => void {
  system.addEventListener('change', then);
  return () => system.removeEventListener('change', then);
}

/** Puts the theme on the page; without a choice the style sheet follows the system by itself. */
export function show(): void {
  const value = chosen();
  if (value) document.documentElement.dataset['theme'] = value;
  else delete document.documentElement.dataset['theme'];
}
