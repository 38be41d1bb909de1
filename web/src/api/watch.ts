// List, then watch, for ever: the informer of the dashboard.
//
// Watches use WebSocket, because a browser gives an origin six HTTP/1.1 streams for all its tabs.
// A lost socket resumes from the last revision. One that was refused lists again: a browser does not
// tell why an upgrade failed, and the answer to a list does (the token has expired, the server is
// gone). On failure the last objects are kept and the state says so; an error never empties a list.

import { delay } from './backoff';
import type { KubeObject } from './kinds';
import { ApiError, request } from './request';
import { token } from './session';

export type Change<T> = { type: 'snapshot'; items: T[] } | { type: 'put'; item: T } | { type: 'remove'; item: T };
export type State = 'connecting' | 'live' | 'lost' | 'denied';

interface List<T> {
  metadata: { resourceVersion: string; continue?: string };
  items: T[];
}

interface WatchEvent<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  object: T;
}

/** The server sends a bookmark every ten seconds; two that did not come are a dead connection. */
const SILENCE = 25_000;

export class Watch<T extends KubeObject> {
  #stop = new AbortController();
  #failures = 0;

  constructor(
    private readonly path: string,
    private readonly onChange: (change: Change<T>) => void,
    private readonly onState: (state: State, refusal?: ApiError) => void,
  ) {}

  start(): void {
    void this.#run(this.#stop.signal);
  }

  /** After this nothing is reported any more. */
  stop(): void {
    this.#stop.abort();
  }

  async #run(stop: AbortSignal): Promise<void> {
    let revision: string | null = null;
    while (!stop.aborted) {
      try {
        revision ??= await this.#list(stop);
        revision = await this.#follow(revision, stop);
      } catch (error) {
        if (stop.aborted) return;
        if (error instanceof ApiError && (error.code === 401 || error.code === 403)) {
          this.onState('denied', error);
          return;
        }
      }
      if (stop.aborted) return;
      this.#failures += 1;
      if (this.#failures > 1) this.onState('lost');
      await new Promise((resolve) => setTimeout(resolve, delay(this.#failures, Math.random())));
    }
  }

  async #list(stop: AbortSignal): Promise<string> {
    const items: T[] = [];
    let page: List<T> | null = null;
    do {
      const rest: string = page?.metadata.continue ? `&continue=${encodeURIComponent(page.metadata.continue)}` : '';
      page = await request<List<T>>(`${this.path}?limit=500${rest}`, { signal: stop });
      items.push(...page.items);
    } while (page.metadata.continue);
    this.onChange({ type: 'snapshot', items });
    return page.metadata.resourceVersion;
  }

  /** Follows from a revision until the socket ends; gives the revision to go on from, or null to list again. */
  #follow(from: string, stop: AbortSignal): Promise<string | null> {
    return new Promise((resolve) => {
      let revision: string | null = null;
      const socket = new WebSocket(address(this.path, from), protocols());
      let silence: ReturnType<typeof setTimeout>;
      // `close` waits for the server to agree, minutes if it hangs: the socket is not listened to any more.
      const end = () => {
        clearTimeout(silence);
        stop.removeEventListener('abort', end);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
        resolve(revision);
      };
      const listen = () => {
        clearTimeout(silence);
        silence = setTimeout(() => {
          this.onState('lost');
          end();
        }, SILENCE);
      };
      listen();
      stop.addEventListener('abort', end);
      socket.onopen = () => {
        revision = from;
        this.#failures = 0;
        this.onState('live');
      };
      socket.onmessage = (message: MessageEvent<string>) => {
        listen();
        const event = decode<T>(message.data);
        if (event === null || event.type === 'ERROR') {
          revision = null;
          end();
          return;
        }
        revision = event.object.metadata.resourceVersion;
        if (event.type === 'DELETED') this.onChange({ type: 'remove', item: event.object });
        else if (event.type !== 'BOOKMARK') this.onChange({ type: 'put', item: event.object });
      };
      socket.onclose = end;
    });
  }
}

function address(path: string, revision: string): string {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = `watch=1&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(revision)}`;
  return url.href;
}

/** Kubernetes takes a browser's token as a subprotocol, beside the one that it will speak. */
function protocols(): string[] {
  const bearer = token();
  const encoded = bearer ? btoa(bearer).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '') : null;
  const spoken = ['text.wasmorch.dev', 'base64.binary.k8s.io'];
  return encoded ? [`base64url.bearer.authorization.k8s.io.${encoded}`, ...spoken] : spoken;
}

/** One frame; null if it is not an event, after which the stream cannot be believed. */
export function decode<T>(data: string): WatchEvent<T> | null {
  try {
    if (data.startsWith('{')) return JSON.parse(data) as WatchEvent<T>;
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as WatchEvent<T>;
  } catch {
    return null;
  }
}
