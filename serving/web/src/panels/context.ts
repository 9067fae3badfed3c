/** What a board is looked at through: range, filters, tenant, and how questions reach the hub. */

import { ask, type Address } from '../lib/client';
import type { Group } from '../lib/shapes';
import { idBetween, rangeFrom, slides, type Range } from '../lib/time';
import { view } from '../lib/view.svelte';
import type { Seen } from './framing';
import { TENANT } from './question';

export interface Context {
  readonly range: Range;
  readonly module: string;
  /** Field -> the one value it must have. */
  readonly where: Readonly<Record<string, string>>;
  /** A tenant other than the key's own, for keys that may look there; empty for the key's own. */
  readonly tenant: string;
  /** Answers a panel's address; a shared board asks through its link instead. */
  ask(address: Address, panel?: string): Promise<unknown>;
  /** Called with the group a reader clicked on; null where groups cannot be chosen. */
  readonly pick: ((group: Group) => void) | null;
  /** Called with the stretch of time a reader drew over a chart, ms since the epoch; null where the range is fixed. */
  readonly zoom: ((from: number, to: number) => void) | null;
}

/** The stretch of time that answers of `at` are about. */
export function seenThrough({ range }: Pick<Context, 'range'>, at: number): Seen {
  return { now: slides(range) ? at : Math.min(at, Date.parse(range.to)), rangeMs: range.ms };
}

/** The view kept in the address of the page. */
export const pageContext: Context = {
  get range() {
    return view.range;
  },
  get module() {
    return view.module;
  },
  get where() {
    return view.where;
  },
  get tenant() {
    return view.tenant;
  },
  ask: (address) => ask<unknown>(address),
  pick: (group) => {
    const tenant = group[TENANT];
    if (tenant) {
      view.set({ tenant: tenant === view.tenant ? '' : tenant });
      return;
    }
    const where = { ...view.where };
    for (const [field, value] of Object.entries(group)) {
      // A second click on what is chosen already lets it go.
      if (value === null || where[field] === value) delete where[field];
      else where[field] = value;
    }
    view.set({ where });
  },
  zoom: (from, to) => {
    const range = idBetween(from, to);
    if (rangeFrom(range)) view.set({ range });
  },
};
