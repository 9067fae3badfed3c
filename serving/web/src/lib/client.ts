/** The one way to the hub: adds the key, asks conditionally, turns problem+json into an exception with its hint. */

import { session } from './session.svelte';

export class HubProblem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly hint: string,
    readonly retryAfterMs: number | null,
  ) {
    super(`${status} ${title}`);
  }
}

/** No answer at all, or one from a gateway in front of a hub that is down. */
export class HubAway extends Error {}

export type Outcome = { kind: 'ok' } | { kind: 'busy' | 'away'; retryAfterMs: number | null };

interface Kept {
  etag: string;
  body: unknown;
}

const KEPT_LIMIT = 120;
const TIMEOUT_MS = 30_000;
const kept = new Map<string, Kept>();
const flying = new Map<string, Promise<unknown>>();
const listeners = new Set<(outcome: Outcome) => void>();

/** Told of the end of every request, so that polling can slow down when the hub asks for it. */
export function onOutcome(listener: (outcome: Outcome) => void): void {
  listeners.add(listener);
}

function tell(outcome: Outcome): void {
  for (const listener of listeners) listener(outcome);
}

function retryAfter(response: Response): number | null {
  const header = response.headers.get('Retry-After');
  if (!header) return null;
  const wait = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(wait) ? Math.min(Math.max(wait, 0), 300_000) : null;
}

async function problemOf(response: Response): Promise<HubProblem> {
  let body: Record<string, unknown> = {};
  try {
    const parsed: unknown = await response.json();
    if (parsed && typeof parsed === 'object') body = parsed as Record<string, unknown>;
  } catch {
    // Not the hub's own answer: the status is all there is to say.
  }
  const text = (name: string): string => (typeof body[name] === 'string' ? (body[name] as string) : '');
  const title = text('title') || `The hub answered ${response.status}`;
  return new HubProblem(response.status, title, text('detail'), text('hint'), retryAfter(response));
}

async function send(path: string, key: string | null): Promise<unknown> {
  const slot = `${key ?? ''} ${path}`;
  const known = kept.get(slot);
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (key) headers['Authorization'] = `Bearer ${key}`;
  if (known) headers['If-None-Match'] = known.etag;
  let response: Response;
  try {
    // no-store: the answers of one key must not stay in a cache that outlives its session.
    response = await fetch(path, { headers, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new HubAway('no answer');
  }
  if (response.status === 304 && known) return known.body;
  if (response.status === 502 || response.status === 504) throw new HubAway(`gateway answered ${response.status}`);
  if (!response.ok) throw await problemOf(response);
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    throw new HubAway('the answer broke off');
  }
  const etag = response.headers.get('ETag');
  if (etag) {
    kept.delete(slot);
    kept.set(slot, { etag, body });
    const oldest = kept.keys().next().value;
    if (kept.size > KEPT_LIMIT && oldest !== undefined) kept.delete(oldest);
  }
  return body;
}

/** The JSON at `path`; two who ask for the same at once share one request. */
export function ask<T>(path: string): Promise<T> {
  const running = flying.get(path);
  if (running) return running as Promise<T>;
  const asked = send(path, session.key)
    .then((body) => {
      tell({ kind: 'ok' });
      return body;
    })
    .catch((error: unknown) => {
      if (error instanceof HubAway) tell({ kind: 'away', retryAfterMs: null });
      else if (error instanceof HubProblem && (error.status === 429 || error.status === 503)) {
        tell({ kind: 'busy', retryAfterMs: error.retryAfterMs });
      } else tell({ kind: 'ok' });
      if (error instanceof HubProblem && error.status === 401) {
        session.refuse(session.key ? 'The key kept in this browser is no longer accepted.' : '');
      }
      throw error;
    })
    .finally(() => flying.delete(path));
  flying.set(path, asked);
  return asked as Promise<T>;
}

/** Tries a key before it is kept. Throws HubProblem (401 when the hub does not know it) or HubAway. */
export async function tryKey(key: string): Promise<void> {
  await send('/api/v1/catalog', key);
}

export function forgetAnswers(): void {
  kept.clear();
}
