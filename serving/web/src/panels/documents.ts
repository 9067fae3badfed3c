/** Documents of the hub that are no answers to questions, as frames. */

import type { Frame } from '../charts/frame';
import type { LedgerAnswer } from '../lib/shapes';
import { ledgerFrame } from './ledger';
import { records, type Heading } from './records';
import type { DocumentQuery } from './spec';

const SHARDS: Heading[] = [['shard', 'Shard', 'text', 'label'], ['state', 'State', 'text', 'dimension'], ['buffered_events', 'Buffered', 'count', 'value'],
  ['lag_s', 'Lag', 's', 'value'], ['reason', 'Reason', 'text', 'dimension']];
const TENANTS: Heading[] = [['tenant_id', 'Tenant', 'text', 'label'], ['accepted', 'Accepted', 'count', 'value'], ['committed', 'Committed', 'count', 'value'],
  ['repeated', 'Repeated', 'count', 'value'], ['dead_letters', 'Dead letters', 'count', 'value'], ['in_flight', 'In flight', 'count', 'value'],
  ['difference', 'Difference', 'count', 'value']];
const TRACES: Heading[] = [['trace_id', 'Trace', 'text', 'label'], ['started_at', 'Began', 'time', 'dimension'], ['service', 'Service', 'text', 'dimension'],
  ['models', 'Models', 'text', 'dimension'], ['span_count', 'Spans', 'count', 'value'], ['duration_ms', 'Duration', 'ms', 'value'],
  ['error_event_count', 'Errors', 'count', 'value'], ['total_tokens', 'Tokens', 'tokens', 'value'], ['cost_usd', 'Cost', 'usd', 'value']];
const ANOMALIES: Heading[] = [['from', 'From', 'time', 'dimension'], ['severity', 'Severity', 'text', 'dimension'], ['entity', 'Where', 'text', 'label'],
  ['measures', 'What', 'text', 'dimension'], ['score', 'Score', 'count', 'value'], ['threshold', 'Threshold', 'count', 'value'], ['drivers', 'Driven by', 'text', 'dimension'],
  ['detector', 'Detector', 'text', 'dimension'], ['state', 'State', 'text', 'dimension'], ['to', 'To', 'time', 'note']];
const DETECTORS: Heading[] = [['detector', 'Detector', 'text', 'label'], ['state', 'State', 'text', 'dimension'], ['champion', 'Champion', 'text', 'dimension'],
  ['versions', 'Versions', 'count', 'value'], ['precision', 'Average precision, planted faults', 'ratio', 'value'], ['recall', 'Recall', 'ratio', 'value'],
  ['alarms', 'Alarms per entity and day', 'count', 'value']];
const READINESS: Heading[] = [['status', 'Status', 'text', 'label'], ['reason', 'Reason', 'text', 'dimension']];

interface Anomaly {
  entity?: unknown;
  dimensions?: Record<string, string | null>;
  measures?: unknown;
  measure?: unknown;
  drivers?: unknown;
  trace_ids?: string[];
}

/** Drivers and entities come as text, or as objects that name themselves. */
function named(value: unknown): string {
  if (Array.isArray(value)) return value.map(named).filter(Boolean).join(', ');
  if (value && typeof value === 'object') {
    const { name, measure, feature } = value as Record<string, unknown>;
    const own = name ?? measure ?? feature;
    return own === undefined ? Object.values(value).filter((part) => typeof part !== 'object').join(' · ') : String(own);
  }
  return value === null || value === undefined ? '' : String(value);
}

function anomalies(answer: { anomalies?: Anomaly[]; rows?: Anomaly[] } | Anomaly[]): Frame {
  const found = Array.isArray(answer) ? answer : (answer.anomalies ?? answer.rows ?? []);
  const rows = found.map((one) => ({ ...one, entity: Object.values(one.dimensions ?? {}).filter(Boolean).join(' · ') || named(one.entity), measures: named(one.measures ?? one.measure), drivers: named(one.drivers) }));
  return { ...records(rows, ANOMALIES), documents: found, groups: found.map((one) => ({ trace_id: one.trace_ids?.[0] ?? null })) };
}

interface Detector {
  detector: string;
  state: string;
  champion: { version: number; owner: string; figures: Record<string, number> } | null;
  versions: { version: number; figures: Record<string, number> }[];
}

const STATES: Record<string, string> = { not_trained: 'not trained', trained: 'trained, not promoted', serving: 'serving' };

/** Kinds with their champion; figures are those of its run, or of the newest version where none was promoted. */
function detectors(answer: { detectors: Detector[] }): Frame {
  return records(answer.detectors.map((one) => {
    const figures = (one.champion ?? one.versions[0])?.figures ?? {};
    return {
      detector: one.detector, state: STATES[one.state] ?? one.state, champion: one.champion ? `version ${one.champion.version} of ${one.champion.owner}` : '–', versions: one.versions.length,
      precision: figures['held_average_precision'] ?? null, recall: figures['held_recall'] ?? null, alarms: figures['held_alarms_per_day'] ?? null,
    };
  }), DETECTORS);
}

export function documentFrame(query: DocumentQuery, answer: unknown): Frame {
  switch (query.kind) {
    case 'ledger': return ledgerFrame(answer as LedgerAnswer);
    case 'shards': return records((answer as LedgerAnswer).shards ?? [], SHARDS);
    case 'tenants': return records((answer as LedgerAnswer).tenants ?? [], TENANTS, (row) => ({ tenant_id: String(row['tenant_id']) }));
    case 'readiness': {
      const { status, reasons } = answer as { status: string; reasons: string[] };
      return records((reasons.length ? reasons : ['every part answers']).map((reason) => ({ status, reason })), READINESS);
    }
    case 'traces': return records((answer as { traces: object[] }).traces, TRACES, (row) => ({ trace_id: String(row['trace_id']) }));
    case 'anomalies': return anomalies(answer as Anomaly[]);
    case 'detectors': return detectors(answer as { detectors: Detector[] });
  }
}
