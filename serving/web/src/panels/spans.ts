/** A trace as rows: one span each, in the order of the tree. */

import type { Frame } from '../charts/frame';
import { records } from './records';

export interface SpanEvent {
  event_id?: string;
  occurred_at?: string;
  module?: string;
  kind?: string;
  [field: string]: unknown;
}

export interface Span {
  id: string;
  parent: string | null;
  link?: string;
  depth: number;
  children?: string[];
  on_critical_path?: boolean;
  started_at?: string;
  latency_ms?: number | null;
  duration_ms?: number | null;
  service?: string | null;
  model?: string | null;
  operation?: string | null;
  status?: string | null;
  cost_usd?: number | null;
  payload?: Record<string, unknown>;
  attributes?: Record<string, unknown>;
  events?: SpanEvent[];
  [field: string]: unknown;
}

export interface TraceAnswer {
  trace_id: string;
  started_at: string;
  ended_at: string;
  duration_ms: number;
  event_count: number;
  span_count: number;
  modules: Record<string, number>;
  totals: Record<string, number | null>;
  critical_path: { id: string; critical_ms: number }[];
  spans: Span[];
}

export const FAILED = new Set(['error', 'timeout', 'rate_limited', 'unavailable']);

/** What a span is called: its own name, else what it does to what. */
export function spanName(span: Span): string {
  const name = span.payload?.['name'];
  if (typeof name === 'string' && name) return name;
  return [span.operation, span.model].filter(Boolean).join(' ') || span.events?.[0]?.kind || String(span['kind'] ?? span.id);
}

export const startOf = (span: Span): number => Date.parse(span.started_at ?? span.events?.[0]?.occurred_at ?? '');
export const durationOf = (span: Span): number => span.duration_ms ?? span.latency_ms ?? 0;

export function spansFrame(trace: TraceAnswer): Frame {
  const began = Date.parse(trace.started_at);
  const path = new Map(trace.critical_path.map((step) => [step.id, step.critical_ms]));
  const rows = trace.spans.map((span) => ({
    name: spanName(span), service: span.service ?? '(none)', parent: span.parent ?? '', id: span.id, status: span.status ?? '',
    offset: startOf(span) - began, duration: durationOf(span), depth: span.depth, critical: path.get(span.id) ?? null,
  }));
  return records(rows, [
    ['name', 'Span', 'text', 'label'], ['service', 'Service', 'text', 'dimension'], ['status', 'Status', 'text', 'dimension'],
    ['id', 'Id', 'text', 'note'], ['parent', 'Parent', 'text', 'note'], ['depth', 'Depth', 'count', 'note'],
    ['offset', 'Began after', 'ms', 'value'], ['duration', 'Duration', 'ms', 'value'], ['critical', 'Held up', 'ms', 'value'],
  ]);
}
