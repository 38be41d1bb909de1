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

export async function upload({ namespace, name, replicas, port, file }: Upload, signal: AbortSignal): Promise<void> {
  const form = new FormData();
  form.set('name', name);
  form.set('replicas', String(replicas));
  form.set('port', String(port));
  form.set('module', file, `${name}.wasm`);
  await request(`/apis/wasmorch.dev/v1/namespaces/${namespace}/uploads`, { method: 'POST', body: form, signal });
}

/** A name for module, Deployment and Service out of a file's: lower case, a letter first, `-` for everything else. */
export function nameFrom(file: string): string {
  const stem = file.replace(/\.wasm$/i, '').toLowerCase();
  const plain = stem.replaceAll(/[^a-z0-9]+/g, '-').slice(0, 46).replaceAll(/^-+|-+$/g, '');
  return /^[a-z]/.test(plain) ? plain : ['app', plain].filter(Boolean).join('-');
}
