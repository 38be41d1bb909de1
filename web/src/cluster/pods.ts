// What a pod's status says, in kubectl's word and in one of five kinds of health.

import type { Pod } from '../api/kinds';

export type Health = 'ok' | 'warn' | 'err' | 'progress' | 'idle';

export const GLYPH: Record<Health, string> = { ok: '●', warn: '▲', err: '✖', progress: '◐', idle: '○' };

/** What needs attention comes first, wherever pods are listed. */
export const RANK: Record<Health, number> = { err: 0, warn: 1, progress: 2, ok: 3, idle: 4 };

export interface PodView {
  word: string;
  health: Health;
  ready: number;
  total: number;
  restarts: number;
  /** When the last restart was; null if there was none. */
  restarted: string | null;
  reason: string;
}

/** A pod with what the page says of it, worked out once for each revision of the pod. */
export interface Shown {
  pod: Pod;
  view: PodView;
  app: string;
  /** Pods of one owner are kin: they light up with one another. */
  kin: string;
}

const known = new WeakMap<Pod, Shown>();

export function shown(pod: Pod): Shown {
  let found = known.get(pod);
  if (!found) {
    found = { pod, view: view(pod), app: app(pod), kin: owner(pod)?.uid ?? pod.metadata.uid };
    known.set(pod, found);
  }
  return found;
}

const STARTING = new Set(['ContainerCreating', 'PodInitializing', 'Pending', '']);

export function view(pod: Pod): PodView {
  const statuses = pod.status?.containerStatuses ?? [];
  const ready = statuses.filter((status) => status.ready).length;
  const restarts = statuses.reduce((sum, status) => sum + status.restartCount, 0);
  const ends = statuses.flatMap(({ lastState }) => lastState?.terminated?.finishedAt ?? []).sort();
  const word = statusWord(pod);
  const total = pod.spec.containers.length;
  const restarted = restarts > 0 ? (ends.at(-1) ?? null) : null;
  const found = health(pod, word, ready, total);
  return { word, health: found, ready, total, restarts, restarted, reason: found === 'ok' ? '' : why(pod) };
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
  if (STARTING.has(word) || /^Init:\d/.test(word)) return isUnschedulable(pod) ? 'warn' : 'progress';
  return 'err';
}

function isUnschedulable(pod: Pod): boolean {
  return pod.status?.conditions?.some((c) => c.type === 'PodScheduled' && c.status === 'False') ?? false;
}

/** The message behind a pod that is not well. */
function why(pod: Pod): string {
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  for (const { state, lastState } of statuses) {
    if (state?.running) continue;
    const last = lastState?.terminated;
    const parts = [state?.waiting?.message, state?.terminated?.message, ending(last)];
    const said = parts.filter((part) => part !== undefined && part !== '');
    if (said.length > 0) return [...new Set(said)].join(' — ');
  }
  // That containers which are not ready are not ready is no reason.
  const condition = pod.status?.conditions?.find((c) => c.status === 'False' && c.message && c.reason !== 'ContainersNotReady');
  return condition?.message ?? pod.status?.message ?? '';
}

function ending(last: { exitCode: number; reason?: string; message?: string } | undefined): string | undefined {
  if (!last) return undefined;
  return last.message || `last end: ${last.reason ?? 'exit'}, exit code ${last.exitCode}`;
}

function owner(pod: Pod) {
  return pod.metadata.ownerReferences?.find((candidate) => candidate.controller);
}

/** What people call the thing that the pod is one of: its app label, else its owner, else itself. */
function app(pod: Pod): string {
  const labels = pod.metadata.labels ?? {};
  const labelled = labels['app.kubernetes.io/name'] ?? labels['app'];
  if (labelled) return labelled;
  const hash = labels['pod-template-hash'];
  const name = owner(pod)?.name ?? pod.metadata.name;
  return hash && name.endsWith(`-${hash}`) ? name.slice(0, -hash.length - 1) : name;
}

/** The two letters on a pod's cell. */
export function initials({ app: name }: Shown): string {
  return name.slice(0, 2);
}
