/** The one way to the hub: adds the key, asks conditionally, turns problem+json into an exception with its hint. */

import { Gatherer, type Question } from './gatherer';
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

/** What is asked: a path, and for a question that is posted its JSON text. */
export interface Address {
  path: string;
  body?: string;
}

export const keyOf = ({ path, body }: Address): string => (body === undefined ? path : `${path} ${body}`);

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

function problemFrom(told: unknown, status: number, retryAfterMs: number | null): HubProblem {
  const body = told && typeof told === 'object' ? (told as Record<string, unknown>) : {};
  const text = (name: string): string => (typeof body[name] === 'string' ? (body[name] as string) : '');
  return new HubProblem(status, text('title') || `The hub answered ${status}`, text('detail'), text('hint'), retryAfterMs);
}

async function problemOf(response: Response): Promise<HubProblem> {
  // What is not the hub's own answer leaves the status as all there is to say.
  const body: unknown = await response.json().catch(() => null);
  return problemFrom(body, response.status, retryAfter(response));
}

/** The hub's answer, or an exception that says why there is none; 304 is an answer. */
async function reach(path: string, asked: RequestInit): Promise<Response> {
  let response: Response;
  try {
    // no-store: the answers of one key must not stay in a cache that outlives its session.
    response = await fetch(path, { ...asked, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new HubAway('no answer');
  }
  if (response.status === 502 || response.status === 504) throw new HubAway(`gateway answered ${response.status}`);
  if (!response.ok && response.status !== 304) throw await problemOf(response);
  return response;
}

const slotOf = (address: Address, key: string | null): string => `${key ?? ''} ${keyOf(address)}`;

function headersOf(key: string | null, posts: boolean): Record<string, string> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (key) headers['Authorization'] = `Bearer ${key}`;
  if (posts) headers['Content-Type'] = 'application/json';
  return headers;
}

async function jsonOf(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    throw new HubAway('the answer broke off');
  }
}

function keep(slot: string, etag: string | null | undefined, body: unknown): void {
  if (!etag) return;
  kept.delete(slot);
  kept.set(slot, { etag, body });
  const oldest = kept.keys().next().value;
  if (kept.size > KEPT_LIMIT && oldest !== undefined) kept.delete(oldest);
}

async function send(address: Address, key: string | null): Promise<unknown> {
  const { path, body: question } = address;
  const slot = slotOf(address, key);
  const known = kept.get(slot);
  const headers = headersOf(key, question !== undefined);
  if (known) headers['If-None-Match'] = known.etag;
  const asked: RequestInit = question === undefined ? {} : { method: 'POST', body: question };
  const response = await reach(path, { ...asked, headers });
  if (response.status === 304 && known) return known.body;
  const body = await jsonOf(response);
  keep(slot, response.headers.get('ETag'), body);
  return body;
}

interface Part {
  status: number;
  etag?: string;
  answer?: unknown;
  problem?: unknown;
}

/** The body of a request for several questions, given their texts and the ETags that are held, as JSON lists without brackets. */
type Together = (questions: string, etags: string) => string;

// Each question as its own text: written anew it might differ from what it is known by.
const BATCH: Together = (questions, etags) => `{"kind":"batch","queries":[${questions}],"etags":[${etags}]}`;
const NAMED: Together = (questions, etags) => `{"questions":[${questions}],"etags":[${etags}]}`;

/** Several questions in one request: each comes to its own end, or all to that of the request. */
async function sendTogether(path: string, questions: readonly Question[], key: string | null, together: Together): Promise<void> {
  const slots = questions.map(({ body }) => slotOf({ path, body }, key));
  const held = slots.map((slot) => kept.get(slot));
  const etags = held.map((one) => JSON.stringify(one?.etag ?? null)).join(',');
  const body = together(questions.map((one) => one.body).join(','), etags);
  const response = await reach(path, { method: 'POST', body, headers: headersOf(key, true) });
  const { answers } = (await jsonOf(response)) as { answers: Part[] };
  questions.forEach((question, i) => {
    const part = answers[i];
    const known = held[i];
    if (part?.status === 304 && known) question.answered(known.body);
    else if (part?.status === 200) {
      keep(slots[i] as string, part.etag, part.answer);
      question.answered(part.answer);
    } else if (part) question.failed(problemFrom(part.problem, part.status, null));
    else question.failed(new HubAway('the answer broke off'));
  });
}

const QUESTIONS = '/api/v1/query';
const gathererOf = (key: () => string | null, together: Together): Gatherer =>
  new Gatherer((path, questions) => sendTogether(path, questions, key(), together), (slot) => !kept.has(`${key() ?? ''} ${slot}`));
const gatherer = gathererOf(() => session.key, BATCH);

const reached = (address: Address): Promise<unknown> =>
  address.body !== undefined && address.path.startsWith(QUESTIONS) ? gatherer.add(address.path, address.body) : send(address, session.key);

/** The same answer, its outcome told to those who listen. */
function noted<T>(asked: Promise<T>): Promise<T> {
  return asked.then((body) => {
    tell({ kind: 'ok' });
    return body;
  }, (error: unknown) => {
    if (error instanceof HubAway) tell({ kind: 'away', retryAfterMs: null });
    else if (error instanceof HubProblem && (error.status === 429 || error.status === 503)) {
      tell({ kind: 'busy', retryAfterMs: error.retryAfterMs });
    } else tell({ kind: 'ok' });
    throw error;
  });
}

/** The JSON at a path, or the answer to a question; two who ask for the same at once share one request. */
export function ask<T>(asking: string | Address): Promise<T> {
  const address = typeof asking === 'string' ? { path: asking } : asking;
  const slot = keyOf(address);
  const running = flying.get(slot);
  if (running) return running as Promise<T>;
  const asked = noted(reached(address))
    .catch((error: unknown) => {
      if (error instanceof HubProblem && error.status === 401) {
        session.refuse(session.key ? 'The key kept in this browser is no longer accepted.' : '');
      }
      throw error;
    })
    .finally(() => flying.delete(slot));
  flying.set(slot, asked);
  return asked as Promise<T>;
}

/** What a link opens: its token stands in place of a key, and its board's questions go by their names. */
export class Through {
  private readonly gatherer: Gatherer;

  constructor(private readonly door: string, private readonly token: string) {
    this.gatherer = gathererOf(() => token, NAMED);
  }

  opened<T>(): Promise<T> {
    return noted(send({ path: this.door }, this.token)) as Promise<T>;
  }

  answer(name: string): Promise<unknown> {
    return noted(this.gatherer.add(`${this.door}/answers`, JSON.stringify(name)));
  }
}

/** Changes something of the hub. `held` is the version that the change was made to. */
export async function change<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown, held?: string): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (session.key) headers['Authorization'] = `Bearer ${session.key}`;
  if (held) headers['If-Match'] = held;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const response = await reach(path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  return (response.status === 204 ? null : await response.json()) as T;
}

/** Tries a key before it is kept. Throws HubProblem (401 when the hub does not know it) or HubAway. */
export async function tryKey(key: string): Promise<void> {
  await send({ path: '/api/v1/catalog' }, key);
}

export function forgetAnswers(): void {
  kept.clear();
}
