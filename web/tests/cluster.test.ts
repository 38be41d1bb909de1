// The pure halves: what a change does to a collection, what a pod's status is called, what the
// sentence on top says, how ages and quantities read.
import { describe, expect, it } from 'vitest';
import { delay } from '../src/api/backoff';
import type { KubeEvent, Node, Pod } from '../src/api/kinds';
import { nameFrom } from '../src/api/upload';
import { decode } from '../src/api/watch';
import { happenings, shortened } from '../src/cluster/happenings';
import { sentence } from '../src/cluster/health';
import { percent, requested } from '../src/cluster/load';
import { shown, statusWord, view } from '../src/cluster/pods';
import { apply } from '../src/cluster/store.svelte';
import { humanDuration } from '../src/text/age';
import { humanBytes, humanCores, quantity } from '../src/text/quantity';

const pod = (name: string, status: Pod['status'] = { phase: 'Running' }, deletionTimestamp?: string): Pod => ({
  metadata: { name, uid: name, resourceVersion: '1', ...(deletionTimestamp ? { deletionTimestamp } : {}) },
  spec: { containers: [{ name: 'main', image: name }] },
  ...(status ? { status } : {}),
});

const running = (name: string, ready = true): Pod =>
  pod(name, { phase: 'Running', containerStatuses: [{ name: 'main', ready, restartCount: 2, state: { running: {} } }] });

const node = (name: string, status: string): Node => ({
  metadata: { name, uid: name, resourceVersion: '1' },
  spec: {},
  status: { conditions: [{ type: 'Ready', status }] },
});

describe('collections', () => {
  it('follow snapshots, puts and removals', () => {
    const map = new Map<string, Pod>();
    apply(map, { type: 'snapshot', items: [pod('a'), pod('b')] });
    apply(map, { type: 'put', item: pod('c') });
    apply(map, { type: 'put', item: pod('c') });
    apply(map, { type: 'remove', item: pod('a') });
    expect([...map.keys()]).toEqual(['b', 'c']);
    apply(map, { type: 'snapshot', items: [] });
    expect(map.size).toBe(0);
  });

  it('decode plain and base64 frames alike', () => {
    const event = { type: 'ADDED', object: { metadata: { name: 'é' } } };
    const text = JSON.stringify(event);
    const encoded = btoa(String.fromCharCode(...new TextEncoder().encode(text)));
    expect(decode(text)).toEqual(event);
    expect(decode(encoded)).toEqual(event);
    expect(decode('neither')).toBeNull();
    expect(decode('{"cut off')).toBeNull();
  });
});

describe('a pod', () => {
  const waiting = (reason: string) => ({
    phase: 'Pending',
    containerStatuses: [{ name: 'main', ready: false, restartCount: 0, state: { waiting: { reason } } }],
  });
  it.each([
    [running('a'), 'Running', 'ok'],
    [running('a', false), 'Running', 'progress'],
    [pod('a', { phase: 'Pending' }), 'Pending', 'progress'],
    [pod('a', { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False' }] }), 'Pending', 'warn'],
    [pod('a', waiting('ContainerCreating')), 'ContainerCreating', 'progress'],
    [pod('a', waiting('CrashLoopBackOff')), 'CrashLoopBackOff', 'err'],
    [pod('a', waiting('ErrImagePull')), 'ErrImagePull', 'err'],
    [pod('a', { phase: 'Succeeded' }), 'Succeeded', 'idle'],
    [pod('a', { phase: 'Failed', reason: 'Evicted' }), 'Evicted', 'err'],
    [pod('a', { phase: 'Running' }, 'now'), 'Terminating', 'progress'],
  ] as const)('%#: reads %s', (item, word, health) => {
    expect([statusWord(item), view(item).health]).toEqual([word, health]);
  });

  it('gives the reason in the words of who found it', () => {
    const crashing = pod('a', {
      phase: 'Running',
      containerStatuses: [
        {
          name: 'main',
          ready: false,
          restartCount: 3,
          state: { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 40s' } },
          lastState: { terminated: { exitCode: 134, reason: 'Error', message: 'trap: unreachable', finishedAt: '2026-01-01T00:00:00Z' } },
        },
      ],
    });
    expect(view(crashing)).toMatchObject({ restarts: 3, restarted: '2026-01-01T00:00:00Z', reason: 'back-off 40s — trap: unreachable' });
    const pending = pod('a', { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes are available' }] });
    expect(view(pending).reason).toBe('0/3 nodes are available');
    expect(view(running('a')).reason).toBe('');
  });

  it('is called by its label, else its owner, else itself, and worked out once', () => {
    const labelled = (labels: Record<string, string>, owner?: string): Pod => ({
      ...running('x-6b9d-q8zzn'),
      metadata: {
        ...running('x-6b9d-q8zzn').metadata,
        labels,
        ...(owner ? { ownerReferences: [{ kind: 'ReplicaSet', name: owner, uid: owner, controller: true }] } : {}),
      },
    });
    expect(shown(labelled({ app: 'a', 'app.kubernetes.io/name': 'b' })).app).toBe('b');
    expect(shown(labelled({ 'pod-template-hash': '6b9d' }, 'x-6b9d'))).toMatchObject({ app: 'x', kin: 'x-6b9d' });
    expect(shown(labelled({})).app).toBe('x-6b9d-q8zzn');
    const one = running('a');
    expect(shown(one)).toBe(shown(one));
  });
});

describe('the sentence', () => {
  const named = (item: Pod) => ({ app: item.metadata.name, view: view(item) });
  it('names what is wrong first', () => {
    const failing = pod('payments', { phase: 'Failed' });
    expect(sentence([node('n', 'True')], [named(failing)]).text).toBe('1 pod failing: payments');
    expect(sentence([node('n', 'Unknown')], []).text).toBe('1 node not ready: n');
    expect(sentence([node('n', 'Unknown')], [named(failing)])).toMatchObject({ text: '1 node not ready: n', detail: '1 pod failing: payments' });
    expect(sentence([node('n', 'True')], [named(running('a'))])).toMatchObject({ health: 'ok', text: 'Healthy', at: null });
    expect(sentence([node('n', 'True')], [named(running('a', false))]).text).toBe('1 pod not ready: a');
    expect(sentence([node('n', 'True')], [named(pod('a', { phase: 'Running' }, 'now'))]).text).toBe('Healthy');
    const long = pod('a'.repeat(60) + 'z'.repeat(60), { phase: 'Failed' });
    expect(sentence([node('n', 'True')], [named(long)]).text).toBe(`1 pod failing: ${'a'.repeat(19)}…${'z'.repeat(19)}`);
    expect(sentence([], []).health).toBe('idle');
  });
});

describe('events', () => {
  const event = (name: string, minute: number, message: string, type = 'Normal', count = 1): KubeEvent => ({
    metadata: { name: `${name}.${minute}`, uid: `${name}.${minute}.${message}`, resourceVersion: '1' },
    type,
    reason: 'Reason',
    message,
    count,
    lastTimestamp: `2026-01-01T00:${String(minute).padStart(2, '0')}:00Z`,
    involvedObject: { kind: 'Pod', name },
  });
  const now = Date.parse('2026-01-01T00:59:00Z');

  it('said of several objects are one line, and fresh warnings come first', () => {
    const told = happenings(
      [
        event('b', 58, 'Assigned b to dev-1'),
        event('a', 57, 'Assigned a to dev-1'),
        event('c', 56, 'Back-off', 'Warning', 14),
        event('d', 2, 'Long ago', 'Warning'),
      ],
      now,
    );
    expect(told.map(({ who, others, times, warning }) => [who, others, times, warning])).toEqual([
      ['c', 0, 14, true],
      ['b', 1, 2, false],
      ['d', 0, 1, true],
    ]);
  });

  it('show digests at the length in which people compare them', () => {
    expect(shortened(`image "x@sha256:${'0123456789abcdef'.repeat(4)}" is here`)).toBe('image "x@sha256:0123456789ab…" is here');
    expect(shortened('sha256:0123')).toBe('sha256:0123');
  });
});

describe('load', () => {
  it('is what running pods ask for, and something is never nothing', () => {
    const asking: Pod = { ...running('a'), spec: { nodeName: 'n', containers: [{ name: 'main', image: 'a', resources: { requests: { cpu: '250m' } } }] } };
    const ended: Pod = { ...asking, status: { phase: 'Succeeded' } };
    const unplaced: Pod = { ...asking, spec: { containers: asking.spec.containers } };
    expect(requested([asking, ended, unplaced, asking], 'cpu')).toBe(0.5);
    expect([percent(0, 8), percent(0.01, 8), percent(4, 8), percent(9, 8), percent(1, 0)]).toEqual([0, 1, 50, 100, 0]);
  });
});

describe('texts', () => {
  it('read like kubectl', () => {
    expect([0, 119, 200, 3600, 90_000].map(humanDuration)).toEqual(['0s', '119s', '3m20s', '60m', '25h']);
    expect(['250m', '64Mi', '2', 'x', undefined].map(quantity)).toEqual([0.25, 67_108_864, 2, 0, 0]);
    expect(['Hello World.wasm', '__x__.WASM', '.wasm', '3D.wasm'].map(nameFrom)).toEqual(['hello-world', 'x', 'app', 'app-3d']);
    expect([0, 900, 1536, 2 ** 30 * 63.6].map(humanBytes)).toEqual(['0 B', '900 B', '1.5 KiB', '64 GiB']);
    expect([0.25, 1.234, 6].map(humanCores)).toEqual(['0.25', '1.23', '6']);
    expect([delay(1, 0), delay(3, 0), delay(20, 1)]).toEqual([500, 2000, 12_000]);
  });
});
