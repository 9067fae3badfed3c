/** What the guardrails looked at, and what they did. */

import type { BoardSpec } from '../../panels/spec';

const SENT = 'The guardrails module sends guardrails.evaluation for each check, with guardrail_action.';
const EVALUATED = ['kind:eq:guardrails.evaluation'];

const LEVELS = "CASE WHEN risk IS NULL THEN 'not scored' WHEN risk >= 0.9 THEN 'critical, from 0.9' WHEN risk >= 0.7 THEN 'high, from 0.7' WHEN risk >= 0.4 THEN 'medium, from 0.4' ELSE 'low' END";

/** The payload of an event is for SQL alone. Days are told as well as instants: whole days are passed over unread. */
const SEEN = `kind = 'guardrails.evaluation' AND event_date BETWEEN CAST($from AS DATE) AND CAST($to AS DATE) AND occurred_at >= $from AND occurred_at < $to`
  + ` AND ($service IS NULL OR service = $service) AND ($environment IS NULL OR environment = $environment)`;
const told = (select: string): string => `SELECT ${select} AS evaluations FROM events WHERE ${SEEN} GROUP BY ALL ORDER BY evaluations DESC`;
const part = (name: string): string => `coalesce(json_extract_string(payload, '$.${name}'), '(none)')`;
const SCORED = `SELECT TRY_CAST(json_extract_string(payload, '$.risk_score') AS DOUBLE) AS risk, ${part('risk_category')} AS category FROM events WHERE ${SEEN}`;

export const GUARDRAILS: BoardSpec = {
  title: 'Guardrails', annotations: true, variables: [{ field: 'service', title: 'Service' }, { field: 'environment', title: 'Environment' }],
  kpis: [
    { measure: 'guardrail_count', title: 'Evaluations', worse: 'neither' },
    { measure: 'guardrail_block_ratio', title: 'Blocked', worse: 'more' },
    { measure: 'unique_users', title: 'Users seen', worse: 'neither' },
  ],
  panels: [
    { id: 'actions', title: 'Evaluations by action', kind: 'stacked_bar', place: { x: 0, y: 0, w: 8, h: 6 }, empty: SENT,
      query: { kind: 'timeseries', measure: ['guardrail_count'], group_by: ['guardrail_action'], fill: 'zero' } },
    { id: 'shares', title: 'Actions', kind: 'pie', place: { x: 8, y: 0, w: 4, h: 6 }, empty: SENT, query: { kind: 'top', measure: ['guardrail_count'], filter: EVALUATED, group_by: ['guardrail_action'], limit: 6 } },
    { id: 'blocked', title: 'Share blocked', kind: 'area', place: { x: 0, y: 6, w: 6, h: 6 }, empty: SENT, query: { kind: 'timeseries', measure: ['guardrail_block_ratio'] }, draw: { ink: 'bad' } },
    { id: 'services', title: 'Share blocked by service', kind: 'horizontal_bar', place: { x: 6, y: 6, w: 6, h: 6 }, empty: SENT,
      query: { kind: 'aggregate', measure: ['guardrail_block_ratio', 'guardrail_count'], group_by: ['service'], having: ['guardrail_count:gt:0'], limit: 10 }, draw: { hide: ['guardrail_count'] } },
    { id: 'verdicts', title: 'Verdict against action', kind: 'heatmap', place: { x: 0, y: 12, w: 5, h: 6 }, empty: `${SENT} Its payload has a verdict.`,
      query: { kind: 'sql', sql: told(`${part('verdict')} AS verdict, coalesce(guardrail_action, '(none)') AS action, count(*)`), limit: 50 }, draw: { titles: { evaluations: 'Evaluations' } } },
    { id: 'risk', title: 'Risk', note: 'evaluations by score and category', kind: 'pivot', place: { x: 5, y: 12, w: 7, h: 6 }, empty: `${SENT} Its payload has a risk_category and a risk_score from 0 to 1.`,
      query: { kind: 'sql', sql: `SELECT ${LEVELS} AS level, category, count(*) AS evaluations FROM (${SCORED}) GROUP BY ALL ORDER BY max(coalesce(risk, -1)) DESC`, limit: 60 } },
    { id: 'hours', title: 'When violations come', note: 'local hours', kind: 'punchcard', place: { x: 0, y: 18, w: 6, h: 6 }, empty: 'No violation (guardrails.violation).',
      query: { kind: 'timeseries', measure: ['event_count'], filter: ['kind:eq:guardrails.violation'], granularity: '1h', from: '-7d' } },
    { id: 'users', title: 'Users stopped most', kind: 'lollipop', place: { x: 6, y: 18, w: 6, h: 6 }, drill: { page: 'sessions' }, empty: 'Nobody was stopped. Send user_id with violations to see who.',
      query: { kind: 'top', measure: ['event_count'], filter: ['kind:eq:guardrails.violation'], group_by: ['user_id'], limit: 10 }, draw: { titles: { event_count: 'Violations' } } },
    { id: 'violations', title: 'Violations', note: 'newest first', kind: 'table', place: { x: 0, y: 24, w: 12, h: 7 }, drill: { page: 'traces' }, empty: 'No violation (guardrails.violation).',
      query: { kind: 'search', filter: ['kind:in:guardrails.violation,guardrails.incident'], limit: 50 }, draw: { fields: ['trace_id', 'kind', 'service', 'severity', 'payload.policy', 'payload.risk_category', 'payload.risk_score', 'user_id'] } },
  ],
};
