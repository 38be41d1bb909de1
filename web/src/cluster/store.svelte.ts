// All objects that the page shows, fed by watches.
//
// Changes are collected and shown at most four times a second (the first snapshot at once): a burst
// of a thousand pod updates costs one render. Objects are never made deeply reactive; each view is
// one `$state.raw` array that is replaced when its contents changed.

import type { Deployment, KubeEvent, KubeObject, Namespace, Node, Pod } from '../api/kinds';
import { type Change, type State, Watch } from '../api/watch';

const FLUSH_MS = 250;
const MOST_EVENTS = 200;

class Collection<T extends KubeObject> {
  items = $state.raw<T[]>([]);
  loaded = $state(false);
  state = $state<State>('connecting');
  #byUid = new Map<string, T>();
  #dirty = false;
  #watch: Watch<T> | null = null;

  constructor(private readonly order: (a: T, b: T) => number) {}

  open(path: string, schedule: () => void): void {
    this.close();
    this.#byUid.clear();
    this.items = [];
    this.loaded = false;
    this.#watch = new Watch<T>(
      path,
      (change) => {
        apply(this.#byUid, change);
        this.#dirty = true;
        if (change.type === 'snapshot') this.flush();
        else schedule();
      },
      (state) => (this.state = state),
    );
    this.#watch.start();
  }

  close(): void {
    this.#watch?.stop();
    this.#watch = null;
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

const byName = (a: KubeObject, b: KubeObject) =>
  (a.metadata.namespace ?? '').localeCompare(b.metadata.namespace ?? '') || a.metadata.name.localeCompare(b.metadata.name);

export const lastSeen = (event: KubeEvent) => event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp ?? '';

const newestFirst = (a: KubeEvent, b: KubeEvent) => lastSeen(b).localeCompare(lastSeen(a)) || byName(a, b);

export class Cluster {
  namespace = $state('');
  nodes = new Collection<Node>(byName);
  pods = new Collection<Pod>(byName);
  deployments = new Collection<Deployment>(byName);
  events = new Collection<KubeEvent>(newestFirst);
  namespaces = new Collection<Namespace>(byName);
  #timer: ReturnType<typeof setTimeout> | null = null;

  readonly state = $derived.by((): State => {
    const states = [this.nodes.state, this.pods.state, this.events.state];
    return (['denied', 'lost', 'connecting'] as const).find((state) => states.includes(state)) ?? 'live';
  });

  readonly recentEvents = $derived(this.events.items.slice(0, MOST_EVENTS));

  open(namespace: string): void {
    this.namespace = namespace;
    const inside = namespace ? `/namespaces/${namespace}` : '';
    this.nodes.open('/api/v1/nodes', this.#schedule);
    this.namespaces.open('/api/v1/namespaces', this.#schedule);
    this.pods.open(`/api/v1${inside}/pods`, this.#schedule);
    this.deployments.open(`/apis/apps/v1${inside}/deployments`, this.#schedule);
    this.events.open(`/api/v1${inside}/events`, this.#schedule);
  }

  close(): void {
    for (const collection of this.#all()) collection.close();
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
