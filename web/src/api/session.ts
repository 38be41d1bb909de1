// Who we are to the API server: a bearer token, kept for this tab only.
//
// `wasmorch dev` prints an address with the token in the fragment, which browsers never send; it is
// taken out of the address bar at once.

import { ApiError, request } from './request';

const KEY = 'wasmorch.token';

export function takeTokenFromAddress(): void {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return;
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, '', location.pathname + location.search);
}

export function token(): string | null {
  return sessionStorage.getItem(KEY);
}

export function setToken(value: string | null): void {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** Why the server does not take a token, in words; null if it does. */
export async function refused(candidate: string): Promise<string | null> {
  // A header cannot carry anything else, and no token of ours has other letters.
  if (!/^[\x21-\x7e]+$/.test(candidate)) return 'A token has neither spaces nor letters beyond ASCII.';
  try {
    await request('/api/v1/namespaces?limit=1', { headers: { Authorization: `Bearer ${candidate}` } });
    return null;
  } catch (error) {
    if (error instanceof ApiError && error.code === 401) return 'The server does not know this token.';
    return error instanceof Error ? error.message : String(error);
  }
}
