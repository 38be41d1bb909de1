// Events as a person would tell them: the same thing said of several objects is one line, and what
// went wrong lately comes before what went well.

import type { KubeEvent } from '../api/kinds';

export interface Happening {
  key: string;
  warning: boolean;
  reason: string;
  /** The object that it last happened to, and how many others. */
  who: string;
  others: number;
  /** How often, if more often than once for each object. */
  times: number;
  message: string;
  seen: string;
}

/** For so long a warning stays on top. */
const FRESH_MS = 5 * 60_000;

export function lastSeen(event: KubeEvent): string {
  return event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp ?? '';
}

/** `events` are sorted, the newest first. */
export function happenings(events: KubeEvent[], now: number): Happening[] {
  const groups = new Map<string, { first: Happening; names: Set<string> }>();
  for (const event of events) {
    const { kind = '', name = '', namespace = '' } = event.involvedObject;
    const message = event.message ?? '';
    const said = name ? message.replaceAll(name, '…') : message;
    const key = [event.type, event.reason, kind, namespace, said].join('\n');
    const group = groups.get(key);
    if (group) {
      group.names.add(name);
      group.first.others = group.names.size - 1;
      group.first.times += event.count ?? 1;
    } else {
      const first: Happening = {
        key,
        warning: event.type === 'Warning',
        reason: event.reason ?? 'Event',
        who: name,
        others: 0,
        times: event.count ?? 1,
        message,
        seen: lastSeen(event),
      };
      groups.set(key, { first, names: new Set([name]) });
    }
  }
  const all = [...groups.values()].map(({ first }) => first);
  const isFresh = ({ warning, seen }: Happening) => warning && now - Date.parse(seen) < FRESH_MS;
  return [...all.filter(isFresh), ...all.filter((one) => !isFresh(one))];
}

/** Digests at the length in which people compare them. */
export function shortened(message: string): string {
  return message.replaceAll(/(sha256:[0-9a-f]{12})[0-9a-f]{52}/g, '$1…');
}
