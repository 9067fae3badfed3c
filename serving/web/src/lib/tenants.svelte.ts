/** The tenants whose rows the key may look at. Only keys of administration are told; for others there is nothing to choose. */

import { ask } from './client';

class Tenants {
  /** Ids in order; empty until known, and for a key that may see its own tenant alone. */
  all = $state.raw<readonly string[]>([]);

  async load(): Promise<void> {
    try {
      const { tenants } = await ask<{ tenants: { tenant_id: string }[] }>('/api/v1/tenants');
      this.all = tenants.map((one) => one.tenant_id).sort();
    } catch {
      this.all = [];
    }
  }
}

export const tenants = new Tenants();
