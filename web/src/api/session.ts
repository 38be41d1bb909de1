// Who we are to the API server: a bearer token, kept for this tab only.
//
// `wasmorch dev` prints an address with the token in the fragment, which browsers never send; it is
// taken out of the address bar at once.

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
