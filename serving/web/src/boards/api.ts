/** Kept boards as the hub tells them, and what may be done with them. */

import { ask, change } from '../lib/client';
import { view } from '../lib/view.svelte';
import type { BoardSpec } from '../panels/spec';

export type Right = 'none' | 'view' | 'edit' | 'own';

export interface Entry {
  dashboard_id: string;
  title: string;
  tenant_id: string;
  owner: string;
  version: number;
  right: Right;
  sharing: { tenant: Right; organisation: Right };
  created_at: string;
  changed_at: string;
}

export interface Kept extends Entry {
  board: BoardSpec;
}

export interface Version {
  version: number;
  created_at: string;
  created_by: string;
}

export interface Link {
  link_id: string;
  version: number;
  filters: string[];
  expires_at: string;
  revoked_at: string | null;
}

export interface NewLink extends Link {
  token: string;
  path: string;
}

const at = (rest = ''): string => `/api/v1/dashboards${rest}${view.door}`;
const held = (version: number): string => `"v${version}"`;

export const list = async (): Promise<Entry[]> => (await ask<{ dashboards: Entry[] }>(at())).dashboards;
export const load = (id: string): Promise<Kept> => ask(at(`/${id}`));
export const create = (board: BoardSpec): Promise<Kept> => change('POST', at(), board);
export const save = (id: string, board: BoardSpec, version: number): Promise<Kept> => change('PUT', at(`/${id}`), board, held(version));
export const remove = (id: string): Promise<null> => change('DELETE', at(`/${id}`));
export const copy = (id: string): Promise<Kept> => change('POST', at(`/${id}/copy`));
export const share = (id: string, sharing: Entry['sharing']): Promise<Entry> => change('PUT', at(`/${id}/sharing`), sharing);
export const versions = async (id: string): Promise<Version[]> => (await ask<{ versions: Version[] }>(at(`/${id}/versions`))).versions;
export const restore = (id: string, version: number, newest: number): Promise<Kept> => change('POST', at(`/${id}/versions/${version}/restore`), undefined, held(newest));
export const links = async (id: string): Promise<Link[]> => (await ask<{ links: Link[] }>(at(`/${id}/links`))).links;
export const link = (id: string, days: number): Promise<NewLink> => change('POST', at(`/${id}/links`), { expires_in_s: days * 86_400 });
export const revoke = (id: string, linkId: string): Promise<Link> => change('DELETE', at(`/${id}/links/${linkId}`));
