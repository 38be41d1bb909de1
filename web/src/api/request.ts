// Requests to the API, with the server's own words when one fails.

import type { Status } from './kinds';
import { token } from './session';

/** A server that takes longer is not there; uploads bring their own signal and take their time. */
const PATIENCE = 20_000;

export class ApiError extends Error {
  constructor(
    readonly code: number,
    readonly status: Status | null,
    fallback: string,
  ) {
    super(status?.message ?? fallback);
  }
}

export async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  const headers = new Headers(init.headers);
  const bearer = token();
  if (bearer && !headers.has('Authorization')) headers.set('Authorization', `Bearer ${bearer}`);
  if (!headers.has('Accept')) headers.set('Accept', 'application/json');
  const patience = init.method === undefined ? [AbortSignal.timeout(PATIENCE)] : [];
  const signal = AbortSignal.any([...patience, ...(init.signal ? [init.signal] : [])]);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, signal });
    if (response.ok) return (await response.json()) as T;
  } catch {
    throw new ApiError(0, null, 'The control plane does not answer.');
  }
  throw await failure(response);
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  let status: Status | null = null;
  try {
    status = JSON.parse(text) as Status;
  } catch {
    // Not a Status: a proxy or something before us answered; the code says enough.
  }
  return new ApiError(response.status, status, `${response.status} ${response.statusText}`);
}
