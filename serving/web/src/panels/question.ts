/** A query and the view of the page, as the addresses to ask. */

import type { Range } from '../lib/time';
import type { Query } from './spec';

export interface Asking {
  range: Range;
  module: string;
}

function search(parameters: [string, string | undefined][]): string {
  const encoded = new URLSearchParams();
  for (const [name, value] of parameters) if (value) encoded.append(name, value);
  return encoded.toString();
}

/** The addresses whose answers a frame is made of, in order. */
export function addressesOf(query: Query, { range, module }: Asking): string[] {
  if (query.kind === 'ledger') return ['/api/v1/ledger'];
  const filters = [...(query.filters ?? []), ...(module ? [`module:eq:${module}`] : [])];
  const shared: [string, string | undefined][] = [
    ...query.measures.map((measure): [string, string] => ['measure', measure]),
    ...(query.group_by ?? []).map((field): [string, string] => ['group_by', field]),
    ...filters.map((filter): [string, string] => ['filter', filter]),
  ];
  if (query.kind === 'aggregate') {
    return [
      `/api/v1/metrics/aggregates?${search([
        ['from', range.from], ['to', 'now'], ...shared,
        ['order', query.order], ['limit', query.limit?.toString()],
      ])}`,
    ];
  }
  const period = (from: string, to: string): string =>
    `/api/v1/metrics/timeseries?${search([
      ['from', from], ['to', to], ...shared,
      ['granularity', query.granularity ?? 'auto'], ['fill', query.fill],
    ])}`;
  const now = period(range.from, 'now');
  return query.compare === 'previous' ? [now, period(range.before, range.from)] : [now];
}
