/** What the reader looks at: page, range, module, refresh. Kept in the address, so that a link reopens the same view. */

import { RANGES, type Range } from './time';

export const MODULES = ['observatory', 'registry', 'audit', 'guardrails', 'gateway'] as const;

export const REFRESHES = [
  { id: 'off', title: 'Off', ms: 0 },
  { id: '30s', title: '30 s', ms: 30_000 },
  { id: '1m', title: '1 min', ms: 60_000 },
  { id: '5m', title: '5 min', ms: 300_000 },
] as const;

const DEFAULTS = { page: 'overview', range: '24h', module: '', refresh: '30s' };

class View {
  page = $state(DEFAULTS.page);
  rangeId = $state(DEFAULTS.range);
  module = $state(DEFAULTS.module);
  refreshId = $state(DEFAULTS.refresh);

  range = $derived<Range>(RANGES.find((range) => range.id === this.rangeId) ?? (RANGES[2] as Range));
  refreshMs = $derived(REFRESHES.find((refresh) => refresh.id === this.refreshId)?.ms ?? 30_000);

  constructor() {
    this.read();
    window.addEventListener('hashchange', () => this.read());
  }

  /** Unknown names fall back to the default: an old or mistyped link still opens. */
  private read(): void {
    const [path = '', search = ''] = location.hash.replace(/^#\/?/, '').split('?');
    const asked = new URLSearchParams(path.includes('=') ? path : search);
    const one = (name: string, allowed: readonly string[], otherwise: string): string => {
      const value = asked.get(name) ?? '';
      return allowed.includes(value) ? value : otherwise;
    };
    this.page = path && !path.includes('=') ? path : DEFAULTS.page;
    this.rangeId = one('range', RANGES.map((range) => range.id), DEFAULTS.range);
    this.module = one('module', MODULES, DEFAULTS.module);
    this.refreshId = one('refresh', REFRESHES.map((refresh) => refresh.id), DEFAULTS.refresh);
  }

  set(change: Partial<{ range: string; module: string; refresh: string }>): void {
    const next = new URLSearchParams();
    next.set('range', change.range ?? this.rangeId);
    const module = change.module ?? this.module;
    if (module) next.set('module', module);
    next.set('refresh', change.refresh ?? this.refreshId);
    location.hash = `/${this.page}?${next}`;
  }
}

export const view = new View();
