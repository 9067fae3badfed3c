/** The hub's own bookkeeping as four gauges: is everything accounted for, fresh, readable, and on its feet? */

import { EMPTY_FRAME, type Column, type Frame, type Ink } from '../charts/frame';
import type { Unit } from '../lib/measures';
import type { LedgerAnswer, LedgerCounts } from '../lib/shapes';
import { show } from '../lib/format';

interface Gauge {
  name: string;
  value: number | null;
  /** What a full dial means, in the unit of the value. */
  full: number;
  unit: Unit;
  ink: Ink;
  note: string;
}

/** Promised: an acknowledged event is in answers within 5 s. */
const FRESH_S = 5;
const WORKING = new Set(['ready', 'running', 'open', 'ok', 'healthy', 'alive', 'up', 'serving']);

/** The counts of the whole hub; a ledger without them is added up from its tenants. */
function totalOf(ledger: LedgerAnswer): LedgerCounts {
  if (ledger.total) return ledger.total;
  const names = ['accepted', 'committed', 'expired', 'repeats_removed', 'repeated', 'dead_letters', 'in_flight', 'difference'] as const;
  const sum = (name: (typeof names)[number]): number =>
    (ledger.tenants ?? []).reduce((added, tenant) => added + (tenant[name] ?? 0), 0);
  return Object.fromEntries(names.map((name) => [name, sum(name)]));
}

function committed(ledger: LedgerAnswer): Gauge {
  const total = totalOf(ledger);
  const accepted = total.accepted ?? 0;
  const inFlight = total.in_flight ?? 0;
  const missing = total.difference ?? 0;
  const kept = (total.committed ?? 0) + (total.expired ?? 0) + (total.repeats_removed ?? 0);
  const note = missing !== 0
    ? `${show(Math.abs(missing), 'count')} events ${missing > 0 ? 'missing' : 'too many'}`
    : accepted === 0 ? 'No event accepted yet'
    : inFlight > 0 ? `${show(inFlight, 'count')} in flight, none missing` : 'Every event accounted for';
  return {
    name: 'Committed', value: accepted > 0 ? Math.min(1, kept / accepted) : null, full: 1, unit: 'ratio',
    ink: missing !== 0 ? 'bad' : 'good', note,
  };
}

function fresh(ledger: LedgerAnswer): Gauge {
  const age = ledger.freshness_s ?? null;
  const late = age !== null && age > FRESH_S;
  return {
    name: 'Freshness', value: age, full: 3 * FRESH_S, unit: 's', ink: !late ? 'good' : age > 3 * FRESH_S ? 'bad' : 'warn',
    note: age === null ? 'Not measured yet' : late ? `Later than the promised ${FRESH_S} s` : `From accepted to readable`,
  };
}

function refused(ledger: LedgerAnswer): Gauge {
  const total = totalOf(ledger);
  const dead = total.dead_letters ?? 0;
  const sent = (total.accepted ?? 0) + (total.repeated ?? 0) + dead;
  const ratio = sent > 0 ? dead / sent : null;
  return {
    name: 'Dead letters', value: ratio, full: 0.05, unit: 'ratio',
    ink: (ratio ?? 0) > 0.05 ? 'bad' : (ratio ?? 0) > 0.01 ? 'warn' : 'good',
    note: dead > 0 ? `${show(dead, 'count')} kept with their reason` : 'No event refused',
  };
}

function shards(ledger: LedgerAnswer): Gauge {
  const all = ledger.shards ?? [];
  const up = all.filter((shard) => WORKING.has((shard.state ?? 'ready').toLowerCase())).length;
  const buffered = all.reduce((sum, shard) => sum + (shard.buffered_events ?? 0), 0);
  return {
    name: 'Shards up', value: all.length ? up / all.length : null, full: 1, unit: 'ratio', ink: up < all.length ? 'bad' : 'good',
    note: all.length ? `${up} of ${all.length}, ${show(buffered, 'count')} events buffered` : 'No shard reported',
  };
}

export function ledgerFrame(ledger: LedgerAnswer): Frame {
  const gauges = [committed(ledger), fresh(ledger), refused(ledger), shards(ledger)];
  const units = gauges.map((gauge) => gauge.unit);
  const inks = gauges.map((gauge) => gauge.ink);
  const column = (key: string, label: string, role: Column['role'], values: Column['values']): Column => ({
    key, label, role, unit: 'text', values, ink: 'accent',
  });
  return {
    ...EMPTY_FRAME,
    columns: [
      column('label', 'Gauge', 'label', gauges.map((gauge) => gauge.name)),
      { ...column('value', 'Value', 'value', gauges.map((gauge) => gauge.value)), units, inks },
      { ...column('full', 'Full dial', 'value', gauges.map((gauge) => gauge.full)), units },
      column('note', 'Meaning', 'note', gauges.map((gauge) => gauge.note)),
    ],
    rows: gauges.length,
  };
}
