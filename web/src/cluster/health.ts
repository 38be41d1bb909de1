// The one sentence on top: what is wrong first, and with whom; otherwise that nothing is.

import type { Condition, Node } from '../api/kinds';
import { shortName } from '../text/names';
import type { Health, PodView } from './pods';

export interface Sentence {
  health: Health;
  text: string;
  /** The first cause in the words of who found it. */
  detail: string;
  /** Where on the page the cause is. */
  at: 'pods' | 'nodes' | null;
}

export interface Named {
  app: string;
  view: PodView;
}

export function readiness(node: Node): Condition | undefined {
  return node.status?.conditions?.find((condition) => condition.type === 'Ready');
}

export function isReady(node: Node): boolean {
  return readiness(node)?.status === 'True';
}

export function sentence(nodes: Node[], pods: Named[]): Sentence {
  const down = nodes.filter((node) => !isReady(node));
  const failing = pods.filter((pod) => pod.view.health === 'err');
  const waiting = pods.filter((pod) => pod.view.health === 'warn');
  // A pod on its way out is as it should be.
  const moving = pods.filter((pod) => pod.view.health === 'progress' && pod.view.word !== 'Terminating');
  const unready = moving.filter((pod) => pod.view.word === 'Running');
  const starting = moving.filter((pod) => pod.view.word !== 'Running');
  const about = (health: Health, of: Named[], what: string): Sentence => ({
    health,
    text: `${count(of.length, 'pod')} ${what}: ${who(of.map((pod) => pod.app))}`,
    detail: of.find((pod) => pod.view.reason)?.view.reason ?? '',
    at: 'pods',
  });
  if (down.length > 0) {
    const text = `${count(down.length, 'node')} not ready: ${who(down.map((node) => node.metadata.name))}`;
    const detail = failing.length > 0 ? `${count(failing.length, 'pod')} failing: ${who(failing.map((pod) => pod.app))}` : '';
    return { health: 'err', text, detail: detail || (readiness(down[0] as Node)?.message ?? ''), at: 'nodes' };
  }
  if (failing.length > 0) return about('err', failing, 'failing');
  if (waiting.length > 0) return about('warn', waiting, 'cannot be placed');
  if (starting.length > 0) return { ...about('progress', starting, 'starting'), detail: '' };
  if (unready.length > 0) return { ...about('progress', unready, 'not ready'), detail: '' };
  if (nodes.length === 0) return { health: 'idle', text: 'No workers yet', detail: '', at: null };
  return { health: 'ok', text: 'Healthy', detail: '', at: null };
}

export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

function who(names: string[]): string {
  const different = [...new Set(names)].sort();
  const some = different.slice(0, 3).map((name) => shortName(name)).join(', ');
  return different.length > 3 ? `${some} and ${different.length - 3} more` : some;
}
