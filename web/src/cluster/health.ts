// The one sentence on top: what is wrong first, and with whom; otherwise that nothing is.

import type { Node } from '../api/kinds';
import type { Health, PodView } from './pods';

export interface Sentence {
  health: Health;
  text: string;
}

export interface Named {
  app: string;
  view: PodView;
}

export function isReady(node: Node): boolean {
  return node.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false;
}

export function sentence(nodes: Node[], pods: Named[]): Sentence {
  const down = nodes.filter((node) => !isReady(node));
  const failing = pods.filter((pod) => pod.view.health === 'err');
  const waiting = pods.filter((pod) => pod.view.health === 'warn');
  const starting = pods.filter((pod) => pod.view.health === 'progress');
  if (failing.length > 0) return { health: 'err', text: `${count(failing.length, 'pod')} failing: ${who(failing)}` };
  if (down.length > 0) {
    const names = down.map((node) => node.metadata.name).slice(0, 3).join(', ');
    return { health: 'err', text: `${count(down.length, 'node')} not ready: ${names}` };
  }
  if (waiting.length > 0) return { health: 'warn', text: `${count(waiting.length, 'pod')} cannot be placed: ${who(waiting)}` };
  if (starting.length > 0) return { health: 'progress', text: `${count(starting.length, 'pod')} on the way: ${who(starting)}` };
  if (nodes.length === 0) return { health: 'idle', text: 'No workers yet' };
  return { health: 'ok', text: 'Healthy' };
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

function who(pods: Named[]): string {
  const apps = [...new Set(pods.map((pod) => pod.app))].sort();
  const shown = apps.slice(0, 3).join(', ');
  return apps.length > 3 ? `${shown} and ${apps.length - 3} more` : shown;
}
