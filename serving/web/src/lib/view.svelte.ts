/** What the reader looks at: page, range, module, refresh, filters. Kept in the address, so that a link reopens the same view. */

import { rangeFrom, RANGES, type Range } from './time';

export const MODULES = ['observatory', 'registry', 'audit', 'guardrails', 'gateway'] as const;

export const REFRESHES = [
  { id: 'off', title: 'Off', ms: 0 },
  { id: 'live', title: 'Live', ms: 5_000 },
  { id: '30s', title: '30 s', ms: 30_000 },
  { id: '1m', title: '1 min', ms: 60_000 },
  { id: '5m', title: '5 min', ms: 300_000 },
] as const;

/** Fields of events and of their attributes, as the API spells them. */
const FIELD = /^[a-z_]{1,40}$|^attributes\.[\w.\-]{1,120}$/;
const FILTERS_MAX = 12;

export interface Change {
  page?: string;
  range?: string;
  module?: string;
  refresh?: string;
  where?: Record<string, string>;
  tenant?: string;
}

const DEFAULTS = { page: 'overview', range: '24h', module: '', refresh: '30s' };

class View {
  page = $state(DEFAULTS.page);
  rangeId = $state(DEFAULTS.range);
  module = $state(DEFAULTS.module);
  refreshId = $state(DEFAULTS.refresh);
  /** Field -> the value that every panel is filtered by. */
  where = $state.raw<Record<string, string>>({});
  /** Another tenant than the key's own. */
  tenant = $state('');
  /** Whether the address itself names range and refresh: a board's own wishes come second to a link's. */
  named = $state.raw<readonly string[]>([]);

  range = $derived<Range>(rangeFrom(this.rangeId) ?? (RANGES[2] as Range));
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
    this.rangeId = rangeFrom(asked.get('range') ?? '')?.id ?? DEFAULTS.range;
    this.module = one('module', MODULES, DEFAULTS.module);
    this.refreshId = one('refresh', REFRESHES.map((refresh) => refresh.id), DEFAULTS.refresh);
    this.named = [...asked.keys()];
    const where: Record<string, string> = {};
    for (const filter of asked.getAll('where').slice(0, FILTERS_MAX)) {
      const [field = ''] = filter.split(':', 1);
      if (FIELD.test(field) && filter.length > field.length + 1) where[field] = filter.slice(field.length + 1);
    }
    // The same filters as before keep their identity, so that nothing is asked twice.
    if (JSON.stringify(where) !== JSON.stringify(this.where)) this.where = where;
    this.tenant = (asked.get('tenant') ?? '').slice(0, 64);
  }

  /** The address of a view: this one with some things changed. */
  link(change: Change): string {
    const next = new URLSearchParams();
    next.set('range', change.range ?? this.rangeId);
    const module = change.module ?? this.module;
    if (module) next.set('module', module);
    next.set('refresh', change.refresh ?? this.refreshId);
    for (const [field, value] of Object.entries(change.where ?? this.where)) next.append('where', `${field}:${value}`);
    const tenant = change.tenant ?? this.tenant;
    if (tenant) next.set('tenant', tenant);
    return `#/${change.page ?? this.page}?${next}`;
  }

  /** What a door is told where rows of another tenant than the key's own are looked at. */
  get door(): string {
    return this.tenant ? `?tenant=${encodeURIComponent(this.tenant)}` : '';
  }

  set(change: Change): void {
    location.hash = this.link(change);
  }
}

export const view = new View();
