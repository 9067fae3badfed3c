/** Routing: providers, fallbacks, retries, limits, cache. */

import type { BoardSpec } from '../../panels/spec';
import { PLATFORM } from './variables';

const SENT = 'The gateway module sends gateway.request for each call.';
const events = (kind: string): string[] => [`kind:eq:gateway.${kind}`];

export const GATEWAY: BoardSpec = {
  title: 'Gateway', variables: [{ field: 'provider', title: 'Provider' }, ...PLATFORM], annotations: true,
  kpis: [
    { measure: 'request_count', title: 'Requests', worse: 'neither' },
    { measure: 'error_ratio', title: 'Error rate', worse: 'more' },
    { measure: 'cache_read_tokens', title: 'Tokens read from cache', worse: 'less' },
    { measure: 'tokens_per_s', title: 'Throughput, tokens', worse: 'less' },
    { measure: 'latency_ms_p95', title: 'p95 latency', worse: 'more' },
  ],
  panels: [
    { id: 'providers', title: 'Requests by provider', kind: 'stacked_area', place: { x: 0, y: 0, w: 8, h: 6 }, empty: SENT,
      query: { kind: 'timeseries', measure: ['request_count'], group_by: ['provider'], fill: 'zero' } },
    { id: 'outcomes', title: 'Outcome of requests', kind: 'pie', place: { x: 8, y: 0, w: 4, h: 6 }, empty: SENT, query: { kind: 'top', measure: ['request_count'], group_by: ['status'], limit: 6 } },
    { id: 'way', title: 'Way of a request', note: 'by trace, within 10 min', kind: 'funnel', place: { x: 0, y: 6, w: 6, h: 6 }, empty: SENT,
      query: { kind: 'funnel', entity: 'trace_id', window: '10m', step: ['kind:gateway.request', 'status:ok', 'kind:observatory.feedback'] },
      draw: { titles: { 'kind:gateway.request': 'Sent to a provider', 'status:ok': 'Answered', 'kind:observatory.feedback': 'Judged by its user' } } },
    { id: 'detours', title: 'Detours', note: 'fallbacks, retries, limits, open circuits', kind: 'stacked_bar', place: { x: 6, y: 6, w: 6, h: 6 },
      empty: 'The gateway sends gateway.fallback, gateway.retry, gateway.ratelimit and gateway.circuit when it leaves the straight way.',
      query: { kind: 'timeseries', measure: ['event_count'], filter: ['kind:in:gateway.fallback,gateway.retry,gateway.ratelimit,gateway.circuit'], group_by: ['kind'], fill: 'zero' } },
    { id: 'cached', title: 'Input read from cache', note: 'share of input tokens, by provider', kind: 'line', place: { x: 0, y: 12, w: 6, h: 6 }, empty: 'Send cache_read_tokens with a request.',
      query: { kind: 'timeseries', measure: ['input_tokens'], calculate: ['cached_ratio=cache_read_tokens / input_tokens'], group_by: ['provider'], filter: ['provider:exists:true'] }, draw: { hide: ['input_tokens'] } },
    { id: 'limits', title: 'Refused by a limit', note: 'by service', kind: 'stacked_bar', place: { x: 6, y: 12, w: 6, h: 6 }, empty: 'No call met a limit. The gateway sends gateway.ratelimit when one does.',
      query: { kind: 'timeseries', measure: ['event_count'], filter: events('ratelimit'), group_by: ['service'], fill: 'zero' }, draw: { titles: { event_count: 'Refusals' } } },
    { id: 'quality', title: 'Providers compared', note: 'each against the largest', kind: 'radar', place: { x: 0, y: 18, w: 5, h: 7 }, empty: SENT,
      query: { kind: 'aggregate', measure: ['request_count', 'latency_ms_p95', 'ttft_ms_p50', 'error_ratio', 'cost_usd'], group_by: ['provider'], filter: ['provider:exists:true'], having: ['request_count:gt:0'], order: ['-request_count'], limit: 6 } },
    { id: 'routes', title: 'Services and their models', note: 'requests', kind: 'pivot', place: { x: 5, y: 18, w: 7, h: 7 }, empty: `${SENT} Name its service.`,
      query: { kind: 'aggregate', measure: ['request_count'], group_by: ['service', 'model'], limit: 100 } },
    { id: 'regions', title: 'Where calls are served', kind: 'geo', place: { x: 0, y: 25, w: 5, h: 6 }, empty: 'Send region with a request, named as cloud regions or countries are.',
      query: { kind: 'aggregate', measure: ['request_count'], filter: ['kind:eq:gateway.request'], group_by: ['region'], limit: 30 } },
    { id: 'health', title: 'Health of providers', note: 'as the gateway told it', kind: 'table', place: { x: 5, y: 25, w: 7, h: 6 }, empty: 'The gateway sends gateway.provider.health and gateway.circuit when a provider fails or recovers.',
      query: { kind: 'search', filter: ['kind:in:gateway.provider.health,gateway.circuit,gateway.budget'], from: '-7d', limit: 50 }, draw: { fields: ['kind', 'provider', 'severity', 'payload.status', 'payload.to'] } },
    { id: 'fallbacks', title: 'Fallbacks', kind: 'table', place: { x: 0, y: 31, w: 12, h: 6 }, drill: { page: 'traces' }, empty: 'No call fell back to another model.',
      query: { kind: 'search', filter: events('fallback'), limit: 50 }, draw: { fields: ['trace_id', 'service', 'payload.from', 'payload.to', 'payload.reason', 'user_id'] } },
  ],
};
