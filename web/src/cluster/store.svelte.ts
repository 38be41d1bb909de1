// All objects that the page shows, fed by watches.
//
// Changes are collected and shown at most four times a second (the first snapshot at once): a burst
// of a thousand pod updates costs one render. Objects are never made deeply reactive; each view is
// one `$state.raw` array that is replaced when its contents changed.
//
// The whole cluster is watched, whichever namespace is chosen: a node's load is that of all its pods.

import type { Deployment, KubeEvent, KubeObject, Namespace, Node, Pod } from '../api/kinds';
import type { ApiError } from '../api/request';
import { type Change, type State, Watch } from '../api/watch';
import { lastSeen } from './happenings';
import { shown } from './pods';

const FLUSH_MS = 250;

class Collection<T extends KubeObject> {
  items = $state.raw<T[]>([]);
  loaded = $state(false);
  state = $state<State>('connecting');
  refusal = $state.raw<ApiError | null>(null);
  #byUid = new Map<string, T>();
  #dirty = false;
  #watch: Watch<T> | null = null;

  constructor(
    private readonly path: string,
    private readonly order: (a: T, b: T) => number,
  ) {}

  open(schedule: () => void): void {
    this.close();
    this.#watch = new Watch<T>(
      this.path,
      (change) => {
        apply(this.#byUid, change);
        this.#dirty = true;
        if (change.type === 'snapshot') this.flush();
        else schedule();
      },
      (state, refusal) => {
        this.state = state;
        this.refusal = refusal ?? null;
      },
    );
    this.#watch.start();
  }

  /** Forgets everything: who signs in next may not be who signed out. */
  close(): void {
    this.#watch?.stop();
    this.#watch = null;
    this.#byUid.clear();
    this.items = [];
    this.loaded = false;
    this.state = 'connecting';
    this.refusal = null;
  }

  flush(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.items = [...this.#byUid.values()].sort(this.order);
    this.loaded = true;
  }
}

export function apply<T extends KubeObject>(byUid: Map<string, T>, change: Change<T>): void {
  switch (change.type) {
    case 'snapshot':
      byUid.clear();
      for (const item of change.items) byUid.set(item.metadata.uid, item);
      return;
    case 'put':
      byUid.set(change.item.metadata.uid, change.item);
      return;
    case 'remove':
      byUid.delete(change.item.metadata.uid);
  }
}

// Names are ASCII: comparing letters is right, and many times faster than a collation.
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const byName = (a: KubeObject, b: KubeObject) =>
  compare(a.metadata.namespace ?? '', b.metadata.namespace ?? '') || compare(a.metadata.name, b.metadata.name);

const newestFirst = (a: KubeEvent, b: KubeEvent) => compare(lastSeen(b), lastSeen(a)) || byName(a, b);

export class Cluster {
  /** The chosen one; empty for all. */
  namespace = $state('');
  nodes = new Collection<Node>('/api/v1/nodes', byName);
  pods = new Collection<Pod>('/api/v1/pods', byName);
  deployments = new Collection<Deployment>('/apis/apps/v1/deployments', byName);
  events = new Collection<KubeEvent>('/api/v1/events', newestFirst);
  namespaces = new Collection<Namespace>('/api/v1/namespaces', byName);
  #timer: ReturnType<typeof setTimeout> | null = null;

  readonly state = $derived.by((): State => {
    const states = this.#all().map((collection) => collection.state);
    return (['denied', 'lost', 'connecting'] as const).find((state) => states.includes(state)) ?? 'live';
  });
  /** Why the server ended the session. */
  readonly refusal = $derived(this.#all().find((collection) => collection.refusal)?.refusal ?? null);

  readonly allPods = $derived(this.pods.items.map(shown));
  readonly podsHere = $derived(this.allPods.filter(({ pod }) => this.#isHere(pod)));
  readonly deploymentsHere = $derived(this.deployments.items.filter((item) => this.#isHere(item)));
  readonly eventsHere = $derived(this.events.items.filter((item) => this.#isHere(item)));

  open(): void {
    for (const collection of this.#all()) collection.open(this.#schedule);
  }

  close(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    for (const collection of this.#all()) collection.close();
  }

  #isHere(object: KubeObject): boolean {
    return this.namespace === '' || object.metadata.namespace === this.namespace;
  }

  #all() {
    return [this.nodes, this.pods, this.deployments, this.events, this.namespaces];
  }

  #schedule = (): void => {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      for (const collection of this.#all()) collection.flush();
    }, FLUSH_MS);
  };
}
