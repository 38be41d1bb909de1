// How full nodes are: what the pods on them ask for, against what the nodes can give. A pod without a
// node takes nothing yet.

import type { Node, Pod } from '../api/kinds';
import { quantity } from '../text/quantity';

export type Resource = 'cpu' | 'memory';
export const RESOURCES: readonly Resource[] = ['cpu', 'memory'];

export function requested(pods: Pod[], resource: Resource): number {
  let sum = 0;
  for (const pod of pods) {
    if (!pod.spec.nodeName || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') continue;
    for (const container of pod.spec.containers) sum += quantity(container.resources?.requests?.[resource]);
  }
  return sum;
}

export function allocatable(nodes: Node[], resource: Resource): number {
  return nodes.reduce((sum, node) => sum + quantity(node.status?.allocatable?.[resource]), 0);
}

/** In whole percent; something is never shown as nothing. */
export function percent(part: number, whole: number): number {
  if (whole <= 0 || part <= 0) return 0;
  return Math.min(100, Math.max(1, Math.round((part / whole) * 100)));
}
