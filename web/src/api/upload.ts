// A dropped .wasm becomes a running service in one request: module, Deployment and Service together,
// or nothing.

import { request } from './request';

export interface Upload {
  namespace: string;
  name: string;
  replicas: number;
  port: number;
  file: File;
}

export async function upload({ namespace, name, replicas, port, file }: Upload): Promise<void> {
  const form = new FormData();
  form.set('name', name);
  form.set('replicas', String(replicas));
  form.set('port', String(port));
  form.set('module', file, `${name}.wasm`);
  await request(`/apis/wasmorch.dev/v1/namespaces/${namespace}/uploads`, { method: 'POST', body: form });
}

/** A module's name out of a file's: lower case, `-` for everything else. */
export function nameFrom(file: string): string {
  const stem = file.replace(/\.wasm$/i, '').toLowerCase();
  return stem.replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-+|-+$/g, '').slice(0, 50) || 'app';
}
