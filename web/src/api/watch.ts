// List, then watch, for ever: the informer of the dashboard.
//
// Watches use WebSocket, because a browser gives an origin six HTTP/1.1 streams for all its tabs.
// A lost socket resumes from the last revision; an expired one lists again. On failure the last
// objects are kept and the state says how old they are; an error never empties a list.

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

const SILENCE = 45_000;

export class Watch<T extends KubeObject> {
  #stopped = false;
  #socket: WebSocket | null = null;
  #failures = 0;

  constructor(
    private readonly path: string,
    private readonly onChange: (change: Change<T>) => void,
    private readonly onState: (state: State) => void,
  ) {}

  start(): void {
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#socket?.close();
  }

  async #run(): Promise<void> {
    let revision: string | null = null;
    while (!this.#stopped) {
      try {
        revision ??= await this.#list();
        revision = await this.#follow(revision);
      } catch (error) {
        if (error instanceof ApiError && (error.code === 401 || error.code === 403)) {
          this.onState('denied');
          return;
        }
      }
      if (this.#stopped) return;
      this.#failures += 1;
      if (this.#failures > 1) this.onState('lost');
      await new Promise((resolve) => setTimeout(resolve, delay(this.#failures, Math.random())));
    }
  }

  async #list(): Promise<string> {
    const items: T[] = [];
    let page: List<T> | null = null;
    do {
      const rest: string = page?.metadata.continue ? `&continue=${encodeURIComponent(page.metadata.continue)}` : '';
      page = await request<List<T>>(`${this.path}?limit=500${rest}`);
      items.push(...page.items);
    } while (page.metadata.continue);
    this.onChange({ type: 'snapshot', items });
    this.onState('live');
    return page.metadata.resourceVersion;
  }

  /** Follows from a revision until the socket ends; gives the revision to go on from, or null to list again. */
  #follow(from: string): Promise<string | null> {
    return new Promise((resolve) => {
      let revision: string | null = from;
      const socket = new WebSocket(address(this.path, from), protocols());
      this.#socket = socket;
      let silence = setTimeout(() => socket.close(), SILENCE);
      socket.onopen = () => {
        this.#failures = 0;
        this.onState('live');
      };
      socket.onmessage = (message: MessageEvent<string>) => {
        clearTimeout(silence);
        silence = setTimeout(() => socket.close(), SILENCE);
        const event = decode<T>(message.data);
        if (event.type === 'ERROR') {
          revision = null;
          socket.close();
          return;
        }
        revision = event.object.metadata.resourceVersion;
        if (event.type === 'DELETED') this.onChange({ type: 'remove', item: event.object });
        else if (event.type !== 'BOOKMARK') this.onChange({ type: 'put', item: event.object });
      };
      socket.onclose = () => {
        clearTimeout(silence);
        resolve(revision);
      };
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

export function decode<T>(data: string): WatchEvent<T> {
  if (data.startsWith('{')) return JSON.parse(data) as WatchEvent<T>;
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes)) as WatchEvent<T>;
}
