// A real cluster for the browser: the built binary's `dev --demo` on free ports in a folder of its own,
// its API, its processes to kill, and nodes that are only claimed, to see many pods without running them.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const root = new URL('../../', import.meta.url).pathname;

/** A signal to nobody but a process: 0 and negative numbers mean groups, this one among them. */
function signal(pid, what) {
  if (!(pid > 1)) throw new Error(`no process to signal: ${pid}`);
  process.kill(pid, what);
}

export class Cluster {
  #directory = mkdtempSync(join(tmpdir(), 'wasmorch-browser-'));
  #process;
  #said = '';
  #ended;
  #renewing = null;

  constructor(binary) {
    const folder = join(this.#directory, 'cluster');
    const ports = ['--port', '0', '--https-port', '0', '--ingress-port', '0'];
    this.#process = spawn(binary, ['dev', '--demo', '--dir', folder, ...ports], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream.on('data', (chunk) => (this.#said += chunk));
    this.#ended = new Promise((resolve) => this.#process.on('exit', resolve));
  }

  /** Asks again and again until `check` gives something; the only way in which these tests wait. */
  async until(what, check, seconds = 60) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const value = await check();
      if (value) return value;
      if (this.#process.exitCode !== null) throw new Error(`the cluster ended while waiting for ${what}:\n${this.#said}`);
      if (Date.now() > deadline) throw new Error(`no ${what} after ${seconds} s:\n${this.#said}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The dashboard's address with the token, as the banner prints it. */
  address() {
    return this.until('dashboard address', () => /Dashboard\s+(http:\S+)/.exec(this.#said)?.[1], 120);
  }

  state() {
    return JSON.parse(readFileSync(join(this.#directory, 'cluster/dev.json'), 'utf8'));
  }

  /** Its process id; 0 between its end and its next start. */
  pid(name) {
    return this.state().processes[name] ?? 0;
  }

  kill(name) {
    signal(this.pid(name), 'SIGKILL');
  }

  /** Kills a process as often as it returns, while `run` runs. */
  async keepDown(name, run) {
    let done = false;
    let killed = 0;
    const killing = this.until('end of the outage', () => {
      const pid = this.pid(name);
      if (pid !== 0 && pid !== killed) {
        try {
          signal(pid, 'SIGKILL');
        } catch (error) {
          if (error.code !== 'ESRCH') throw error;
        }
        killed = pid;
      }
      return done;
    }, 120);
    try {
      await Promise.race([run(), killing]);
    } finally {
      done = true;
      await killing;
    }
  }

  /** Stops a process as a debugger would, while `run` runs: it holds its connections and says nothing. */
  async freeze(name, run) {
    const pid = this.pid(name);
    signal(pid, 'SIGSTOP');
    try {
      await run();
    } finally {
      signal(pid, 'SIGCONT');
    }
  }

  #tokens() {
    return join(this.#directory, 'cluster/server/tokens.json');
  }

  token() {
    return JSON.parse(readFileSync(this.#tokens(), 'utf8')).tokens.find(({ user }) => user === 'admin').token;
  }

  /** Gives the administrator another token; the server reads it when it starts again. */
  replaceToken(token) {
    const file = JSON.parse(readFileSync(this.#tokens(), 'utf8'));
    for (const entry of file.tokens) if (entry.user === 'admin') entry.token = token;
    writeFileSync(this.#tokens(), JSON.stringify(file));
  }

  async api(method, path, body, type = 'application/json') {
    const isBytes = body instanceof Uint8Array;
    const response = await fetch(this.state().http + path, {
      method,
      headers: { Authorization: `Bearer ${this.token()}`, ...(body ? { 'Content-Type': isBytes ? 'application/wasm' : type } : {}) },
      ...(body ? { body: isBytes ? body : JSON.stringify(body) } : {}),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  pod(namespace, name, spec, labels = {}) {
    return this.api('POST', `/api/v1/namespaces/${namespace}/pods`, {
      apiVersion: 'v1', kind: 'Pod', metadata: { name, labels }, spec,
    });
  }

  /** Through the front door, by the name of a service. */
  get(host) {
    return new Promise((resolve) => {
      const request = http.get(this.state().ingress, { headers: { host } }, (response) => {
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () => resolve({ status: response.statusCode, body }));
      });
      request.on('error', () => resolve({ status: 0, body: '' }));
    });
  }

  /** Nodes without workers that this process keeps alive as a worker would, until `forgetNodes`. */
  async claimNodes(names) {
    const leases = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases';
    const now = () => `${new Date().toISOString().slice(0, -1)}000Z`;
    const patch = 'application/merge-patch+json';
    for (const name of names) {
      // Tainted, so that nothing is placed there that wants to run.
      const spec = { taints: [{ key: 'claimed', effect: 'NoSchedule' }] };
      await this.api('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec });
      await this.api('POST', leases, {
        apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace: 'kube-node-lease' },
        spec: { holderIdentity: name, leaseDurationSeconds: 40, renewTime: now() },
      });
      const capacity = { cpu: '8', memory: '16Gi', pods: '4000' };
      await this.api('PATCH', `/api/v1/nodes/${name}/status`, { status: { capacity, allocatable: capacity } }, patch);
    }
    const since = new Date().toISOString();
    const beat = (name) => {
      const ready = { type: 'Ready', status: 'True', reason: 'KubeletReady', lastTransitionTime: since, lastHeartbeatTime: new Date().toISOString() };
      return Promise.all([
        this.api('PATCH', `${leases}/${name}`, { spec: { renewTime: now() } }, patch),
        this.api('PATCH', `/api/v1/nodes/${name}/status`, { status: { conditions: [ready] } }, patch),
      ]);
    };
    await Promise.all(names.map(beat));
    // A beat that failed shows as a node that is not ready, which is what the test would see.
    this.#renewing = setInterval(() => void Promise.allSettled(names.map(beat)), 500);
  }

  async forgetNodes(names) {
    clearInterval(this.#renewing);
    for (const name of names) await this.api('DELETE', `/api/v1/nodes/${name}`);
  }

  /** Pods on claimed nodes, said to be running. `of(index)` gives name, node, labels and how it is. */
  async claimPods(namespace, from, to, of) {
    const path = `/api/v1/namespaces/${namespace}/pods`;
    let next = from;
    const one = async () => {
      while (next < to) {
        const { name, node, app, status } = of(next++);
        const container = { name: 'main', image: 'claimed:v1', resources: { requests: { cpu: '20m', memory: '16Mi' } } };
        await this.pod(namespace, name, { nodeName: node, containers: [container], tolerations: [{ operator: 'Exists' }] }, { app });
        await this.api('PATCH', `${path}/${name}/status`, { status }, 'application/merge-patch+json');
      }
    };
    await Promise.all(Array.from({ length: 8 }, one));
  }

  async stop() {
    clearInterval(this.#renewing);
    this.#process.kill('SIGTERM');
    let late;
    await Promise.race([this.#ended, new Promise((resolve) => (late = setTimeout(resolve, 15_000)))]);
    clearTimeout(late);
    if (this.#process.exitCode === null) this.#process.kill('SIGKILL');
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
