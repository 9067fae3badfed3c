/** Sessions, users and agents. */

import type { BoardSpec } from '../../panels/spec';
import { PLATFORM } from './variables';

const NAMED = 'Send session_id and user_id with requests.';
const AGENTS = 'Trace agents with OpenTelemetry: spans of the operations invoke_agent, execute_tool and invoke_workflow.';
const ACTING = 'operation:in:invoke_agent,execute_tool,invoke_workflow,retrieval';

export const SESSIONS: BoardSpec = {
  title: 'Sessions and agents', annotations: true, variables: PLATFORM,
  kpis: [
    { measure: 'unique_sessions', title: 'Sessions', worse: 'neither' },
    { measure: 'unique_users', title: 'Users', worse: 'neither' },
    { measure: 'request_count', title: 'Requests', worse: 'neither' },
    { measure: 'cost_usd', title: 'Cost', worse: 'more' },
  ],
  panels: [
    { id: 'activity', title: 'Sessions and users', kind: 'line', place: { x: 0, y: 0, w: 8, h: 6 }, empty: NAMED, query: { kind: 'timeseries', measure: ['unique_sessions', 'unique_users'] } },
    { id: 'services', title: 'Sessions by service', kind: 'radial_bar', place: { x: 8, y: 0, w: 4, h: 6 }, empty: NAMED,
      query: { kind: 'aggregate', measure: ['unique_sessions'], group_by: ['service'], filter: ['service:exists:true'], limit: 6 } },
    { id: 'sessions', title: 'Dearest sessions', note: 'click one for its traces', kind: 'table', place: { x: 0, y: 6, w: 12, h: 8 }, drill: { page: 'session' }, empty: NAMED,
      query: { kind: 'aggregate', measure: ['cost_usd', 'request_count', 'error_count', 'total_tokens', 'latency_ms_p95'], group_by: ['session_id'], filter: ['session_id:exists:true'], order: ['-cost_usd'], limit: 50 } },
    { id: 'acts', title: 'What agents do', kind: 'stacked_area', place: { x: 0, y: 14, w: 7, h: 6 }, empty: AGENTS, query: { kind: 'timeseries', measure: ['event_count'], filter: [ACTING], group_by: ['operation'], fill: 'zero' } },
    { id: 'tools', title: 'Tools', note: 'calls', kind: 'horizontal_bar', place: { x: 7, y: 14, w: 5, h: 6 }, empty: `${AGENTS} A tool is named by gen_ai.tool.name.`,
      query: { kind: 'aggregate', measure: ['event_count'], filter: ['operation:eq:execute_tool'], group_by: ['attributes.gen_ai.tool.name'], limit: 10 } },
    { id: 'agents', title: 'Services and what they do', kind: 'dependency', place: { x: 0, y: 20, w: 6, h: 7 }, empty: AGENTS,
      query: { kind: 'aggregate', measure: ['event_count'], filter: ['kind:eq:observatory.span', 'service:exists:true', 'operation:exists:true'], group_by: ['service', 'operation'], limit: 60 } },
    { id: 'return', title: 'Users who come back', note: 'by day first seen', kind: 'heatmap', place: { x: 6, y: 20, w: 6, h: 7 }, empty: NAMED,
      query: { kind: 'cohort', entity: 'user_id', period: '1d', from: '-14d' } },
  ],
};

/** One session: its figures and its traces. */
export const sessionBoard = (id: string): BoardSpec => ({
  title: `Session ${id}`,
  panels: [
    { id: 'traces', title: 'Traces', note: 'last started first', kind: 'table', place: { x: 0, y: 0, w: 12, h: 7 }, drill: { page: 'traces' }, empty: 'No trace of this session in the last 30 days.',
      query: { kind: 'session', session_id: id, from: '-30d' } },
    { id: 'course', title: 'Course', kind: 'timeline', place: { x: 0, y: 7, w: 12, h: 6 }, empty: 'No event names this session.',
      query: { kind: 'search', filter: [`session_id:eq:${id}`], from: '-30d', limit: 500 }, draw: { fields: ['kind', 'model', 'status', 'latency_ms', 'cost_usd'] } },
    { id: 'spend', title: 'Cost by model', kind: 'bridge', place: { x: 0, y: 13, w: 6, h: 6 }, empty: 'No call of this session has a cost.',
      query: { kind: 'aggregate', measure: ['cost_usd'], filter: [`session_id:eq:${id}`], from: '-30d', group_by: ['model'], limit: 10 } },
    { id: 'events', title: 'Events', kind: 'table', place: { x: 6, y: 13, w: 6, h: 6 }, empty: 'No event names this session.',
      query: { kind: 'search', filter: [`session_id:eq:${id}`], from: '-30d', limit: 200 }, draw: { fields: ['kind', 'service', 'model', 'status', 'latency_ms', 'cost_usd'] } },
  ],
});
