/** What the registry holds and how it changes. */

import type { BoardSpec } from '../../panels/spec';

const SENT = 'The registry module sends registry.* events: versions published and promoted, prices changed, assets downloaded.';
const OURS = ['module:eq:registry'];
const CHANGES = 'kind:in:registry.version.published,registry.version.promoted,registry.version.alias_moved,registry.version.deprecated,registry.price.changed,registry.asset.registered';

export const REGISTRY: BoardSpec = {
  title: 'Registry', annotations: true, variables: [{ field: 'model', title: 'Model' }, { field: 'provider', title: 'Provider' }],
  panels: [
    { id: 'kinds', title: 'Registry events', kind: 'stacked_bar', place: { x: 0, y: 0, w: 8, h: 6 }, empty: SENT, query: { kind: 'timeseries', measure: ['event_count'], filter: OURS, group_by: ['kind'], fill: 'zero' } },
    { id: 'shares', title: 'By kind', kind: 'rose', place: { x: 8, y: 0, w: 4, h: 6 }, empty: SENT, query: { kind: 'top', measure: ['event_count'], filter: OURS, group_by: ['kind'], limit: 8 } },
    { id: 'course', title: 'Changes of the last week', kind: 'timeline', place: { x: 0, y: 6, w: 7, h: 6 }, empty: SENT,
      query: { kind: 'search', filter: [CHANGES], from: '-7d', limit: 200 }, draw: { fields: ['kind', 'provider', 'model', 'payload.version', 'payload.alias'] } },
    { id: 'models', title: 'Models by provider', note: 'size is registry events', kind: 'treemap', place: { x: 7, y: 6, w: 5, h: 6 }, empty: SENT,
      query: { kind: 'aggregate', measure: ['event_count'], filter: OURS, group_by: ['provider', 'model'], limit: 60 } },
    { id: 'changes', title: 'What changed', note: 'newest first', kind: 'table', place: { x: 0, y: 12, w: 12, h: 7 }, empty: 'No version, alias or price changed.',
      query: { kind: 'search', filter: [CHANGES], from: '-30d', limit: 100 }, draw: { fields: ['kind', 'provider', 'model', 'payload.version', 'payload.previous_version', 'payload.alias', 'payload.actor', 'payload.effective_from'] } },
  ],
};
