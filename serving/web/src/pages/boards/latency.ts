/** How long calls take and how often they fail. */

import type { BoardSpec } from '../../panels/spec';
import { PLATFORM } from './variables';

const TIMED = 'Send latency_ms with a request, or trace calls with OpenTelemetry.';
const STREAMED = 'Send ttft_ms with a streamed request.';
const CALLED = 'Requests come from the gateway (gateway.request) and from traced model calls.';
const FIVE = [0.05, 0.25, 0.5, 0.75, 0.95];

export const LATENCY: BoardSpec = {
  title: 'Latency and reliability', variables: PLATFORM, annotations: true,
  kpis: [
    { measure: 'latency_ms_p50', title: 'Median latency', worse: 'more' },
    { measure: 'latency_ms_p95', title: 'p95 latency', worse: 'more' },
    { measure: 'latency_ms_p99', title: 'p99 latency', worse: 'more' },
    { measure: 'ttft_ms_p50', title: 'Median first token', worse: 'more' },
    { measure: 'error_ratio', title: 'Error rate', worse: 'more' },
  ],
  panels: [
    { id: 'quantiles', title: 'Latency over time', kind: 'line', place: { x: 0, y: 0, w: 8, h: 6 }, empty: TIMED,
      query: { kind: 'percentile', field: 'latency_ms', quantile: [0.5, 0.9, 0.99], granularity: 'auto' } },
    { id: 'spread', title: 'How latency spreads', note: 'calls by duration', kind: 'histogram', place: { x: 8, y: 0, w: 4, h: 6 }, empty: TIMED,
      query: { kind: 'histogram', field: 'latency_ms', buckets: 30 } },
    { id: 'heat', title: 'Latency heat', note: 'the stronger, the more calls', kind: 'heatmap', place: { x: 0, y: 6, w: 7, h: 6 }, empty: TIMED,
      query: { kind: 'heatmap', field: 'latency_ms', buckets: 18, granularity: 'auto' } },
    { id: 'boxes', title: 'Latency by model', note: '5, 25, 50, 75 and 95 of 100 calls', kind: 'box', place: { x: 7, y: 6, w: 5, h: 6 }, empty: TIMED,
      query: { kind: 'percentile', field: 'latency_ms', quantile: FIVE, group_by: ['model'], filter: ['model:exists:true'], limit: 8 } },
    { id: 'errors', title: 'Error rate by provider', kind: 'line', place: { x: 0, y: 12, w: 7, h: 6 }, empty: CALLED, query: { kind: 'timeseries', measure: ['error_ratio'], group_by: ['provider'] } },
    { id: 'failures', title: 'Failures by status', kind: 'stacked_bar', place: { x: 7, y: 12, w: 5, h: 6 }, empty: 'No call has failed. Calls with status error, timeout, rate_limited or unavailable stand here.',
      query: { kind: 'timeseries', measure: ['error_count'], group_by: ['status'], fill: 'zero' } },
    { id: 'first-token', title: 'Time to first token', note: 'by model', kind: 'violin', place: { x: 0, y: 18, w: 7, h: 6 }, empty: STREAMED,
      query: { kind: 'histogram', field: 'ttft_ms', buckets: 40, filter: ['model:exists:true'], group_by: ['model'], limit: 7 } },
    { id: 'balance', title: 'Latency against use', note: 'size is cost', kind: 'bubble', place: { x: 7, y: 18, w: 5, h: 6 }, empty: TIMED,
      query: { kind: 'aggregate', measure: ['request_count', 'latency_ms_p95', 'cost_usd'], group_by: ['model'], filter: ['model:exists:true'], limit: 12 } },
    { id: 'slow', title: 'Traces with slow calls', note: 'a call longer than 10 s, last started first', kind: 'table', place: { x: 0, y: 24, w: 12, h: 7 }, drill: { page: 'traces' }, empty: 'No call took longer than 10 s.',
      query: { kind: 'traces', filter: ['latency_ms:gt:10000'], limit: 50 } },
  ],
};
