/** Keeps the answers to some addresses current: asks again on each beat, and shows the old ones meanwhile. */

import { ask, keyOf, type Address } from '../lib/client';
import { pulse } from '../lib/pulse.svelte';

type Ask = (address: Address) => Promise<unknown>;

const spelled = (addresses: Address[]): string => addresses.map(keyOf).join('\n');

export class Feed<About = null> {
  answers = $state.raw<unknown[] | null>(null);
  /** What `answers` answer: differs from what is asked now while a new view loads. */
  answered = $state('');
  at = $state<number | null>(null);
  fault = $state.raw<unknown>(null);
  /** What `answers` were asked for: answers to one question cannot be read as those to another. */
  about = $state.raw<About | null>(null);
  private round = 0;

  /** To be called while a component is set up, since it lives as long as that. */
  constructor(private readonly addresses: () => Address[], private readonly through: () => Ask = () => ask, subject: () => About | null = () => null) {
    $effect(() => {
      void pulse.beat;
      void this.load(this.addresses(), this.through(), subject());
    });
  }

  get stale(): boolean {
    return this.answers !== null && this.answered !== spelled(this.addresses());
  }

  private async load(addresses: Address[], through: Ask, about: About | null): Promise<void> {
    const round = ++this.round;
    const at = Date.now();
    try {
      const answers = await Promise.all(addresses.map((address) => through(address)));
      if (round !== this.round) return;
      const same = this.answers !== null && this.answers.length === answers.length
        && answers.every((answer, i) => answer === this.answers?.[i]);
      if (!same) this.answers = answers;
      this.about = about;
      this.answered = spelled(addresses);
      this.at = at;
      this.fault = null;
    } catch (fault) {
      if (round === this.round) this.fault = fault;
    }
  }
}
