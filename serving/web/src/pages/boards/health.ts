/** How the hub itself does. */

import type { BoardSpec } from '../../panels/spec';

export const HEALTH: BoardSpec = {
  title: 'Hub health', annotations: true,
  panels: [
    { id: 'ledger', title: 'Ledger', note: 'since it began', kind: 'gauge', place: { x: 0, y: 0, w: 12, h: 4 }, query: { kind: 'ledger' }, empty: 'The ledger fills with the first event.' },
    { id: 'readiness', title: 'Readiness', kind: 'table', place: { x: 0, y: 4, w: 4, h: 3 }, query: { kind: 'readiness' }, empty: 'The hub has not said whether it is ready.' },
    { id: 'shards', title: 'Shards', note: 'what each holds back and how far it lags', kind: 'table', place: { x: 4, y: 4, w: 8, h: 3 }, query: { kind: 'shards' }, empty: 'No shard is reported.' },
    { id: 'tenants', title: 'Ledger by tenant', note: 'difference is 0 when nothing is missing', kind: 'table', place: { x: 0, y: 7, w: 12, h: 3 }, query: { kind: 'tenants' }, empty: 'No tenant has sent anything.' },
    { id: 'events', title: 'Events by module', kind: 'stacked_bar', place: { x: 0, y: 10, w: 8, h: 6 }, query: { kind: 'timeseries', measure: ['event_count'], group_by: ['module'], fill: 'zero' },
      empty: 'Send events to /api/v1/events, or spans to /v1/traces.' },
    { id: 'kinds', title: 'Events by kind', kind: 'horizontal_bar', place: { x: 8, y: 10, w: 4, h: 6 }, query: { kind: 'aggregate', measure: ['event_count'], group_by: ['kind'], limit: 10 },
      empty: 'Send events to /api/v1/events, or spans to /v1/traces.' },
  ],
};
