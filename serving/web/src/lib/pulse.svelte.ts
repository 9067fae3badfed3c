/** When the page asks again. One beat re-asks every panel; trouble makes the beats rarer, a hidden tab stops them. */

import { onOutcome, type Outcome } from './client';
import { view } from './view.svelte';

const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 60_000;

export interface Trouble {
  kind: 'busy' | 'away';
  /** When the page tries again, ms since the epoch. */
  retryAt: number;
}

class Pulse {
  beat = $state(0);
  trouble = $state<Trouble | null>(null);
  /** When the hub last answered, ms since the epoch. */
  heardAt = $state<number | null>(null);
  asking = $state(false);

  private timer: ReturnType<typeof setTimeout> | undefined;
  private settling: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private heard = 0;
  private failed: Exclude<Outcome, { kind: 'ok' }>[] = [];
  private dueAt = 0;

  constructor() {
    onOutcome((outcome) => this.note(outcome));
    document.addEventListener('visibilitychange', () => this.turnedTo());
    window.addEventListener('online', () => this.now());
  }

  /** Ask everything again, at once. */
  now(): void {
    this.asking = true;
    this.heard = 0;
    this.failed = [];
    this.beat += 1;
    this.plan(view.refreshMs);
  }

  /** Called when the reader picks another interval. */
  plan(waitMs: number): void {
    clearTimeout(this.timer);
    this.dueAt = waitMs > 0 ? Date.now() + waitMs : 0;
    if (waitMs > 0 && !document.hidden) this.timer = setTimeout(() => this.now(), waitMs);
  }

  private turnedTo(): void {
    clearTimeout(this.timer);
    if (document.hidden || this.dueAt === 0) return;
    const left = this.dueAt - Date.now();
    if (left <= 0) this.now();
    else this.timer = setTimeout(() => this.now(), left);
  }

  private note(outcome: Outcome): void {
    if (outcome.kind === 'ok') {
      this.heard += 1;
      this.heardAt = Date.now();
    } else this.failed.push(outcome);
    // Panels answer one by one: judge the beat when they have gone quiet, not by its first answer.
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.settle(), 250);
  }

  private settle(): void {
    this.asking = false;
    const first = this.failed[0];
    if (!first) {
      const recovered = this.trouble !== null;
      this.trouble = null;
      this.attempt = 0;
      if (recovered) this.plan(view.refreshMs);
      return;
    }
    const asked = Math.max(0, ...this.failed.map((failure) => failure.retryAfterMs ?? 0));
    const doubled = Math.min(FIRST_RETRY_MS * 2 ** this.attempt, LONGEST_RETRY_MS);
    // Spread, so that a hundred open pages do not return in the same instant.
    const wait = Math.max(asked, doubled * (0.8 + Math.random() * 0.4));
    this.attempt += 1;
    this.failed = [];
    // One part of a hub that answers otherwise is that panel's trouble, not the whole page's.
    const whole = this.heard === 0;
    if (whole) this.trouble = { kind: first.kind, retryAt: Date.now() + wait };
    if (whole || view.refreshMs > 0) this.plan(whole ? wait : Math.max(wait, view.refreshMs));
  }
}

export const pulse = new Pulse();
