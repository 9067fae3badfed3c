/** A query and what the board is looked at through, as the addresses to ask. */

import type { Address } from '../lib/client';
import type { Range } from '../lib/time';
import { spanOf } from '../lib/time';
import type { DocumentQuery, Query, TenantCostsQuery, TimeseriesQuery } from './spec';

export interface Asking {
  range: Range;
  module: string;
  where: Readonly<Record<string, string>>;
  tenant: string;
}

type Parameters = Record<string, string | number | undefined | null | readonly (string | number)[]>;

function search(parameters: Parameters): string {
  const encoded = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one || one === 0) encoded.append(name, String(one));
  }
  const text = encoded.toString();
  return text && `?${text}`;
}

/** The filters of a query and those chosen on the page. A field that the query fixes itself stays as it is. */
export function filtersOf(own: readonly string[] | undefined, { module, where }: Asking): string[] {
  const chosen = Object.entries(module ? { module, ...where } : where);
  const fixed = new Set((own ?? []).map((filter) => filter.split(':', 1)[0]));
  return [...(own ?? []), ...chosen.filter(([field]) => !fixed.has(field)).map(([field, value]) => `${field}:eq:${value}`)];
}

/** The range a query is about: its own where it names one, else the page's. */
export function rangeOf(query: Query, range: Range): Range {
  const from = 'from' in query && typeof query.from === 'string' ? query.from : '';
  const ms = from ? spanOf(from) : null;
  if (!from || ms === null) return range;
  const unit = from.slice(-1);
  return { id: from.slice(1), title: from.slice(1), ms, from, to: 'now', before: `-${2 * Number.parseInt(from.slice(1), 10)}${unit}` };
}

/** The field whose values are tenants: chosen as whose rows are looked at, not as a filter of one tenant's rows. */
export const TENANT = 'tenant_id';

type Document = DocumentQuery | TenantCostsQuery;

const DOCUMENTS: Record<Document['kind'], string> = {
  ledger: '/api/v1/ledger', shards: '/api/v1/ledger', tenants: '/api/v1/ledger', readiness: '/api/v1/ready',
  tenant_costs: '/api/v1/costs', traces: '/api/v1/traces', anomalies: '/api/v1/anomalies', detectors: '/api/v1/detectors',
};

export const isDocument = (query: Query): query is Document => query.kind in DOCUMENTS;

function documentOf(query: Document, asking: Asking, { from, to }: Range): Address {
  const { tenant } = asking;
  const path = DOCUMENTS[query.kind];
  if (query.kind === 'traces' || query.kind === 'tenant_costs') {
    const group_by = query.kind === 'tenant_costs' ? [TENANT] : [];
    return { path: path + search({ from, to, group_by, filter: filtersOf(query.filter, asking), limit: query.limit, tenant }) };
  }
  if (query.kind === 'anomalies') return { path: path + search({ from, to, limit: query.limit, tenant }) };
  return { path: path + search({ tenant: query.kind === 'ledger' ? tenant : '' }) };
}

function posted(query: Query, asking: Asking, { from, to }: Range): Address {
  const door = search({ tenant: asking.tenant });
  if (query.kind === 'sql') {
    const where = asking.module ? { module: asking.module, ...asking.where } : asking.where;
    const view = { from, to: query.to || to, where };
    return { path: `/api/v1/sql${door}`, body: JSON.stringify({ sql: query.sql, limit: query.limit ?? 1000, view }) };
  }
  const filter = filtersOf('filter' in query ? query.filter : [], asking);
  // A trace is asked for by its id alone.
  const ranged = query.kind === 'trace' ? {} : { from, to: ('to' in query && query.to) || to, ...(filter.length ? { filter } : {}) };
  const keep = query.kind === 'session' ? { from, to } : ranged;
  return { path: `/api/v1/query${door}`, body: JSON.stringify({ ...query, ...keep }) };
}

/** The addresses whose answers a frame is made of, in order. */
export function addressesOf(query: Query, asking: Asking): Address[] {
  const range = rangeOf(query, asking.range);
  if (isDocument(query)) return [documentOf(query, asking, range)];
  if (query.kind !== 'timeseries') return [posted(query, asking, range)];
  const { compare, ...asked } = query as TimeseriesQuery;
  const now = posted({ granularity: 'auto', ...asked }, asking, range);
  return compare === 'previous' ? [now, posted({ granularity: 'auto', ...asked, to: range.from }, asking, { ...range, from: range.before })] : [now];
}
