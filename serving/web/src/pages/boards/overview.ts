/** The overview: the seven charts that come first. */

import type { BoardSpec } from '../../panels/spec';

export const REQUESTS = 'Requests come from the gateway (gateway.request) and from traced model calls (OTLP spans).';

export const OVERVIEW: BoardSpec = {
  title: 'Overview', annotations: true,
  kpis: [
    { measure: 'request_count', title: 'Requests', worse: 'neither' },
    { measure: 'cost_usd', title: 'Cost', worse: 'more' },
    { measure: 'total_tokens', title: 'Tokens', worse: 'neither' },
    { measure: 'latency_ms_p95', title: 'p95 latency', worse: 'more' },
    { measure: 'error_ratio', title: 'Error rate', worse: 'more' },
  ],
  panels: [
    {
      id: 'volume', title: 'Request volume', kind: 'line', place: { x: 0, y: 0, w: 8, h: 6 },
      query: { kind: 'timeseries', measure: ['request_count'], fill: 'zero', compare: 'previous' },
      empty: REQUESTS,
    },
    {
      id: 'tokens', title: 'Token distribution', kind: 'pie', place: { x: 8, y: 0, w: 4, h: 6 },
      query: {
        kind: 'aggregate',
        measure: ['input_uncached_tokens', 'cache_read_tokens', 'cache_write_tokens', 'output_text_tokens', 'reasoning_tokens'],
      },
      draw: { turn: true },
      note: 'by kind, none counted twice', empty: 'Send input_tokens and output_tokens with a request to see how they divide.',
    },
    {
      id: 'errors', title: 'Error rate', kind: 'area', place: { x: 0, y: 6, w: 6, h: 6 },
      query: { kind: 'timeseries', measure: ['error_ratio'], fill: 'zero' }, draw: { ink: 'bad' },
      empty: `${REQUESTS} The rate is the share with an error status.`,
    },
    {
      id: 'latency', title: 'Average latency by model', kind: 'bar', place: { x: 6, y: 6, w: 6, h: 6 },
      query: {
        kind: 'aggregate', measure: ['latency_ms_avg', 'latency_ms_p95', 'request_count'], group_by: ['model'],
        order: ['-request_count'], limit: 8,
      },
      draw: { marks: ['latency_ms_p95'], hide: ['request_count'] },
      note: 'most used models first, tick at p95',
      empty: 'Send model and latency_ms with a request to compare models.',
    },
    {
      id: 'cost', title: 'Cost breakdown', kind: 'stacked_bar', place: { x: 0, y: 12, w: 8, h: 6 },
      query: { kind: 'timeseries', measure: ['cost_usd'], group_by: ['model'], fill: 'zero' },
      empty: 'Send cost_usd with a request, or a model whose price the hub knows together with its tokens.',
    },
    {
      id: 'models', title: 'Top models', kind: 'horizontal_bar', place: { x: 8, y: 12, w: 4, h: 6 },
      query: { kind: 'aggregate', measure: ['request_count'], group_by: ['model'], order: ['-request_count'], limit: 10 },
      note: 'by requests', empty: 'Send model with a request to see which are used most.',
    },
    {
      id: 'health', title: 'System health', kind: 'gauge', place: { x: 0, y: 18, w: 12, h: 4 }, query: { kind: 'ledger' },
      note: 'from the hub’s own ledger, since it began', empty: 'The ledger fills with the first event.',
    },
  ],
};
