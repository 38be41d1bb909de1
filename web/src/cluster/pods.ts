// What a pod's status says, in kubectl's word and in one of five kinds of health.

import type { Pod } from '../api/kinds';

export type Health = 'ok' | 'warn' | 'err' | 'progress' | 'idle';

export const GLYPH: Record<Health, string> = { ok: '●', warn: '▲', err: '✖', progress: '◐', idle: '○' };

export interface PodView {
  word: string;
  health: Health;
  ready: number;
  total: number;
  restarts: number;
  reason: string;
}

const STARTING = new Set(['ContainerCreating', 'PodInitializing', 'Pending', '']);

export function view(pod: Pod): PodView {
  const statuses = pod.status?.containerStatuses ?? [];
  const ready = statuses.filter((status) => status.ready).length;
  const restarts = statuses.reduce((sum, status) => sum + status.restartCount, 0);
  const word = statusWord(pod);
  const total = pod.spec.containers.length;
  return { word, health: health(pod, word, ready, total), ready, total, restarts, reason: why(pod) };
}

/** The STATUS column of `kubectl get pods`. */
export function statusWord(pod: Pod): string {
  if (pod.metadata.deletionTimestamp) return 'Terminating';
  const init = pod.status?.initContainerStatuses ?? [];
  for (const [index, status] of init.entries()) {
    const { waiting, terminated } = status.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (terminated) return `Init:${terminated.reason ?? `ExitCode:${terminated.exitCode}`}`;
    if (waiting?.reason && waiting.reason !== 'PodInitializing') return `Init:${waiting.reason}`;
    return `Init:${index}/${init.length}`;
  }
  for (const { state } of pod.status?.containerStatuses ?? []) {
    if (state?.waiting?.reason) return state.waiting.reason;
    if (state?.terminated) return state.terminated.reason ?? `ExitCode:${state.terminated.exitCode}`;
  }
  return pod.status?.reason ?? pod.status?.phase ?? 'Pending';
}

function health(pod: Pod, word: string, ready: number, total: number): Health {
  if (pod.metadata.deletionTimestamp) return 'progress';
  if (pod.status?.phase === 'Succeeded' || word === 'Completed') return 'idle';
  if (pod.status?.phase === 'Failed') return 'err';
  if (word === 'Running') return ready === total ? 'ok' : 'progress';
  if (STARTING.has(word) || word.startsWith('Init:')) return isUnschedulable(pod) ? 'warn' : 'progress';
  return 'err';
}

function isUnschedulable(pod: Pod): boolean {
  return pod.status?.conditions?.some((c) => c.type === 'PodScheduled' && c.status === 'False') ?? false;
}

/** The message behind a pod that is not well. */
function why(pod: Pod): string {
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  for (const { state, lastState } of statuses) {
    const message = state?.waiting?.message ?? state?.terminated?.message ?? lastState?.terminated?.message;
    if (message && !state?.running) return message;
  }
  const condition = pod.status?.conditions?.find((c) => c.status === 'False' && c.message);
  return condition?.message ?? pod.status?.message ?? '';
}

/** Pods of one owner belong together: a ReplicaSet's pods light up with one another. */
export function family(pod: Pod): string {
  return pod.metadata.ownerReferences?.find((owner) => owner.controller)?.uid ?? pod.metadata.uid;
}

/** The two letters on a pod's cell. */
export function initials(pod: Pod): string {
  return pod.metadata.name.slice(0, 2);
}
