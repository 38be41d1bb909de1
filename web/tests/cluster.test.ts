// The pure halves: what a change does to a collection, what a pod's status is called, what the
// sentence on top says, how ages and quantities read.
import { describe, expect, it } from 'vitest';
import { delay } from '../src/api/backoff';
import type { Node, Pod } from '../src/api/kinds';
import { nameFrom } from '../src/api/upload';
import { decode } from '../src/api/watch';
import { sentence } from '../src/cluster/health';
import { statusWord, view } from '../src/cluster/pods';
import { apply } from '../src/cluster/store.svelte';
import { humanDuration } from '../src/text/age';
import { quantity } from '../src/text/quantity';

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
});

describe('the sentence', () => {
  const named = (item: Pod) => ({ app: item.metadata.name, view: view(item) });
  it('names what is wrong first', () => {
    const failing = pod('payments', { phase: 'Failed' });
    expect(sentence([node('n', 'True')], [named(failing)]).text).toBe('1 pod failing: payments');
    expect(sentence([node('n', 'Unknown')], []).text).toBe('1 node not ready: n');
    expect(sentence([node('n', 'True')], [named(running('a'))])).toEqual({ health: 'ok', text: 'Healthy' });
    expect(sentence([], []).health).toBe('idle');
  });
});

describe('texts', () => {
  it('read like kubectl', () => {
    expect([0, 119, 200, 3600, 90_000].map(humanDuration)).toEqual(['0s', '119s', '3m20s', '60m', '25h']);
    expect(['250m', '64Mi', '2', 'x', undefined].map(quantity)).toEqual([0.25, 67_108_864, 2, 0, 0]);
    expect(['Hello World.wasm', '__x__.WASM', '.wasm'].map(nameFrom)).toEqual(['hello-world', 'x', 'app']);
    expect([delay(1, 0), delay(3, 0), delay(20, 1)]).toEqual([500, 2000, 12_000]);
  });
});
