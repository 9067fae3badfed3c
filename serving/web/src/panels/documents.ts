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
const DETECTORS: Heading[] = [['detector', 'Detector', 'text', 'label'], ['champion', 'Champion', 'text', 'dimension'], ['versions', 'Versions', 'text', 'dimension'],
  ['figures', 'Figures', 'text', 'dimension']];
const READINESS: Heading[] = [['status', 'Status', 'text', 'label'], ['reason', 'Reason', 'text', 'dimension']];

interface Anomaly {
  entity?: unknown;
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
  const rows = found.map((one) => ({ ...one, entity: named(one.entity), measures: named(one.measures ?? one.measure), drivers: named(one.drivers) }));
  return { ...records(rows, ANOMALIES), groups: found.map((one) => ({ trace_id: one.trace_ids?.[0] ?? null })) };
}

function detectors(answer: { detectors?: Record<string, unknown>[] } | Record<string, unknown>[]): Frame {
  const found = Array.isArray(answer) ? answer : (answer.detectors ?? []);
  return records(found.map((one) => ({ ...one, detector: one['detector'] ?? one['name'], champion: one['champion'] ?? one['version'], figures: one['figures'] ?? one['evaluation'] })), DETECTORS);
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
    case 'detectors': return detectors(answer as Record<string, unknown>[]);
  }
}
