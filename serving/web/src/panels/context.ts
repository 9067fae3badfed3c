/** What a board is looked at through: range, filters, tenant, and how questions reach the hub. */

import { ask, type Address } from '../lib/client';
import type { Group } from '../lib/shapes';
import type { Range } from '../lib/time';
import { view } from '../lib/view.svelte';

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
    const where = { ...view.where };
    for (const [field, value] of Object.entries(group)) {
      // A second click on what is chosen already lets it go.
      if (value === null || where[field] === value) delete where[field];
      else where[field] = value;
    }
    view.set({ where });
  },
};
