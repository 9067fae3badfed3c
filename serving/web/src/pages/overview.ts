/** The overview: seven panels, as data. */

import type { PanelSpec } from '../panels/spec';

const REQUESTS = 'Requests come from the gateway (gateway.request) and from traced model calls (OTLP spans).';

export const OVERVIEW: readonly PanelSpec[] = [
  {
    id: 'volume', title: 'Request volume', kind: 'line', width: 8,
    query: { kind: 'timeseries', measures: ['request_count'], fill: 'zero', compare: 'previous' },
    empty: REQUESTS,
  },
  {
    id: 'tokens', title: 'Token distribution', kind: 'pie', width: 4,
    query: {
      kind: 'aggregate',
      measures: ['input_uncached_tokens', 'cache_read_tokens', 'cache_write_tokens', 'output_text_tokens', 'reasoning_tokens'],
    },
    draw: { turn: true },
    note: 'by kind, none counted twice', empty: 'Send input_tokens and output_tokens with a request to see how they divide.',
  },
  {
    id: 'errors', title: 'Error rate', kind: 'area', width: 6,
    query: { kind: 'timeseries', measures: ['error_ratio'], fill: 'zero' }, draw: { ink: 'bad' },
    empty: `${REQUESTS} The rate is the share with an error status.`,
  },
  {
    id: 'latency', title: 'Average latency by model', kind: 'bar', width: 6,
    query: {
      kind: 'aggregate', measures: ['latency_ms_avg', 'latency_ms_p95', 'request_count'], group_by: ['model'],
      order: '-request_count', limit: 8,
    },
    draw: { marks: ['latency_ms_p95'], hide: ['request_count'] },
    note: 'most used models first, tick at p95',
    empty: 'Send model and latency_ms with a request to compare models.',
  },
  {
    id: 'cost', title: 'Cost breakdown', kind: 'stacked_bar', width: 8,
    query: { kind: 'timeseries', measures: ['cost_usd'], group_by: ['model'], fill: 'zero' },
    empty: 'Send cost_usd with a request, or a model whose price the hub knows together with its tokens.',
  },
  {
    id: 'models', title: 'Top models', kind: 'horizontal_bar', width: 4,
    query: { kind: 'aggregate', measures: ['request_count'], group_by: ['model'], order: '-request_count', limit: 10 },
    note: 'by requests', empty: 'Send model with a request to see which are used most.',
  },
  {
    id: 'health', title: 'System health', kind: 'gauge', width: 12, query: { kind: 'ledger' },
    note: 'from the hub’s own ledger, since it began', empty: 'The ledger fills with the first event.',
  },
];

export interface KpiSpec {
  measure: string;
  title: string;
  /** Which way is worse; amounts that merely grow are neither. */
  worse: 'more' | 'neither';
}

export const KPIS: readonly KpiSpec[] = [
  { measure: 'request_count', title: 'Requests', worse: 'neither' },
  { measure: 'cost_usd', title: 'Cost', worse: 'more' },
  { measure: 'total_tokens', title: 'Tokens', worse: 'neither' },
  { measure: 'latency_ms_p95', title: 'p95 latency', worse: 'more' },
  { measure: 'error_ratio', title: 'Error rate', worse: 'more' },
];
