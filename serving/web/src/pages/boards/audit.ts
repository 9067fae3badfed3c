/** Who did what. */

import type { BoardSpec } from '../../panels/spec';

const SENT = 'The audit module sends audit.* events: sign-ins, data read, settings changed, security.';
const OURS = ['module:eq:audit'];

export const AUDIT: BoardSpec = {
  title: 'Audit', annotations: true, variables: [{ field: 'service', title: 'Service' }, { field: 'severity', title: 'Severity' }],
  panels: [
    { id: 'kinds', title: 'Audited actions', kind: 'stacked_bar', place: { x: 0, y: 0, w: 8, h: 6 }, empty: SENT, query: { kind: 'timeseries', measure: ['event_count'], filter: OURS, group_by: ['kind'], fill: 'zero' } },
    { id: 'tree', title: 'Kinds and services', kind: 'sunburst', place: { x: 8, y: 0, w: 4, h: 6 }, empty: SENT, query: { kind: 'aggregate', measure: ['event_count'], filter: OURS, group_by: ['kind', 'service'], limit: 60 } },
    { id: 'hours', title: 'When', note: 'local hours', kind: 'punchcard', place: { x: 0, y: 6, w: 6, h: 6 }, empty: SENT,
      query: { kind: 'timeseries', measure: ['event_count'], filter: OURS, granularity: '1h', from: '-7d' } },
    { id: 'people', title: 'Most active users', kind: 'horizontal_bar', place: { x: 6, y: 6, w: 6, h: 6 }, drill: { page: 'sessions' }, empty: `${SENT} Name the user_id.`,
      query: { kind: 'aggregate', measure: ['event_count'], filter: [...OURS, 'user_id:exists:true'], group_by: ['user_id'], limit: 10 } },
    { id: 'security', title: 'Security and settings', note: 'newest first', kind: 'table', place: { x: 0, y: 12, w: 12, h: 6 }, empty: 'No security event and no changed setting.',
      query: { kind: 'search', filter: ['kind:in:audit.security,audit.config,audit.authz'], from: '-30d', limit: 100 }, draw: { fields: ['kind', 'service', 'severity', 'payload.actor', 'payload.action', 'payload.resource', 'payload.outcome'] } },
    { id: 'trail', title: 'Everything audited', note: 'newest first', kind: 'table', place: { x: 0, y: 18, w: 12, h: 7 }, empty: SENT,
      query: { kind: 'search', filter: OURS, limit: 100 }, draw: { fields: ['kind', 'service', 'user_id', 'payload.actor', 'payload.action', 'payload.resource', 'payload.outcome', 'payload.ip'] } },
  ],
};
