/** What all charts with axes share: quiet grid lines, ticks at round local times, and one tooltip. */

import { show, tick } from '../lib/format';
import type { Unit } from '../lib/measures';
import { tickOf, utcOf, windowOf } from '../lib/time';
import type { Option } from './engine';
import { timeOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, type Paint } from './paint';
import { tooltip } from './tooltip';

/** What an option builder may look at besides the frame. */
export interface Room {
  width: number;
  height: number;
  paint: Paint;
  rangeMs: number;
}

export const FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';
export const SIZE = 11;
/** Mean width of a letter at that size, px. */
export const LETTER = 6.4;

const MINUTE = 60_000;
export const NICE_MINUTES = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880];

export function grid(change: Option = {}): Option {
  return { left: 4, right: 8, top: 12, bottom: 2, containLabel: true, ...change };
}

export function valueAxis(unit: Unit, { paint, height }: Room, change: Option = {}): Option {
  return {
    type: 'value', splitNumber: height < 190 ? 3 : 4, min: 0,
    axisLabel: { color: paint.muted, fontSize: SIZE, fontFamily: FONT, formatter: (v: number) => tick(v, unit), hideOverlap: true },
    axisLine: { show: false }, axisTick: { show: false },
    splitLine: { lineStyle: { color: paint.grid, width: 1 } },
    ...(unit === 'count' || unit === 'tokens' ? { minInterval: 1 } : {}),
    ...change,
  };
}

/** A ratio that is zero all along still needs an axis: up to 1 %. */
export function flat(columns: Column[]): Option {
  const none = columns.every((column) => column.values.every((value) => !value));
  return none && columns[0]?.unit === 'ratio' ? { max: 0.01, interval: 0.005 } : {};
}

/** How far apart labelled ticks may stand so that they do not touch, as whole local clock steps. */
function labelStep(rangeMs: number, width: number): number {
  const fits = Math.max(2, Math.floor(width / 92));
  const wanted = rangeMs / fits / MINUTE;
  return (NICE_MINUTES.find((minutes) => minutes >= wanted) ?? 2880) * MINUTE;
}

/** Labels where the local clock is round, not where the array index is. */
function roundLocal(ms: number, step: number): boolean {
  const local = ms - new Date(ms).getTimezoneOffset() * MINUTE;
  return local % step === 0;
}

export function timeAxis(frame: Frame, room: Room): Option {
  const instants = (timeOf(frame)?.values ?? []) as number[];
  const step = Math.max(labelStep(room.rangeMs, room.width - 60), frame.stepMs ?? 0);
  const labelled = (index: number): boolean => roundLocal(instants[index] ?? 0, step);
  return {
    type: 'category', data: instants, boundaryGap: true,
    axisLine: { lineStyle: { color: room.paint.line } },
    axisTick: { show: true, interval: labelled, alignWithLabel: true, length: 4, lineStyle: { color: room.paint.line } },
    axisLabel: {
      color: room.paint.muted, fontSize: SIZE, fontFamily: FONT, interval: labelled, margin: 9, hideOverlap: true,
      formatter: (value: string) => tickOf(Number(value), room.rangeMs),
    },
    axisPointer: { label: { show: false } },
  };
}

/** Above or beside the pointer, never under it, and inside the panel. */
const TIP: Option = {
  confine: true, transitionDuration: 0, padding: 0, borderWidth: 0, backgroundColor: 'transparent', extraCssText: 'box-shadow:none',
};

export function timeTip(frame: Frame, room: Room, order: 'given' | 'stacked' = 'given'): Option {
  const instants = (timeOf(frame)?.values ?? []) as number[];
  return {
    ...TIP, trigger: 'axis',
    axisPointer: { type: 'line', lineStyle: { color: room.paint.muted, width: 1, type: [3, 3] }, z: 0 },
    formatter: (hits: { dataIndex: number }[]) => {
      const row = hits[0]?.dataIndex ?? 0;
      const columns = valuesOf(frame);
      const shown = order === 'stacked' ? columns.filter((column) => column.values[row]) : columns;
      const lines = shown.map((column) => lineOf(column, row, room.paint));
      const total = shown.reduce((sum, column) => sum + Number(column.values[row] ?? 0), 0);
      if (order === 'stacked' && shown.length !== 1) {
        lines.push({ colour: 'transparent', label: 'Total', value: show(total, columns[0]?.unit ?? 'count'), quiet: false });
      }
      const at = instants[row] ?? 0;
      for (const mark of frame.marks ?? []) {
        if (rowAt(frame, mark.at) === row) lines.push({ colour: room.paint.muted, label: mark.text, value: '', quiet: true });
      }
      const partly = row >= frame.openFrom ? ' · so far' : row < frame.wholeFrom ? ' · in part' : '';
      return tooltip(windowOf(at, frame.stepMs) + partly, utcOf(at), lines);
    },
  };
}

export function rowTip(frame: Frame, room: Room): Option {
  const names = frame.columns[0]?.values ?? [];
  return {
    ...TIP, trigger: 'axis', axisPointer: { type: 'shadow', shadowStyle: { color: room.paint.grid, opacity: 0.6 } },
    formatter: (hits: { dataIndex: number }[]) => {
      const row = hits[0]?.dataIndex ?? 0;
      return tooltip(String(names[row] ?? ''), '', valuesOf(frame).map((column) => lineOf(column, row, room.paint)));
    },
  };
}

/** What ECharts tells of the mark under the pointer. */
export interface Hit {
  dataIndex: number;
  dataType?: 'node' | 'edge';
  seriesIndex: number;
  name: string;
  value: unknown;
  data: Record<string, unknown>;
}

export function hitTip(build: (hit: Hit) => HTMLElement | string): Option {
  return { ...TIP, trigger: 'item', formatter: build };
}

/** Labels of an axis where every name must stand: slanted where they are too close to stand upright. */
export function everyName(names: string[], { paint, width }: Room): Option {
  const each = (width - 70) / Math.max(1, names.length);
  const steep = each < 66 && names.some((name) => name.length * 6.4 > each);
  return {
    color: paint.muted, fontSize: SIZE, fontFamily: FONT, interval: 0, overflow: 'truncate', ellipsis: '…',
    ...(steep ? { rotate: 42, width: 92 } : { width: Math.max(30, each - 6) }),
  };
}

/** Axis of names. */
export function nameAxis(names: string[], { paint }: Room, change: Option = {}): Option {
  return {
    type: 'category', data: names, axisTick: { show: false }, axisLine: { lineStyle: { color: paint.line } },
    axisLabel: { color: paint.muted, fontSize: SIZE, fontFamily: FONT, width: 104, overflow: 'truncate', ellipsis: '…', hideOverlap: true },
    ...change,
  };
}

export const words = (paint: Paint, change: Option = {}): Option => ({
  color: paint.text, fontSize: SIZE, fontFamily: FONT, textBorderWidth: 0, textBorderColor: 'transparent', ...change,
});

/** Lines where something changed: at the top a mark, in the tooltip its words. */
export function markLines(frame: Frame, { paint }: Room): Option[] {
  const rows = [...new Set((frame.marks ?? []).map((mark) => rowAt(frame, mark.at)).filter((row) => row >= 0))];
  if (!rows.length) return [];
  return [{
    type: 'line', id: 'marks', data: [], silent: true, tooltip: { show: false },
    markLine: {
      symbol: ['none', 'triangle'], symbolSize: 7, symbolRotate: 180, silent: true, animation: false, label: { show: false },
      lineStyle: { color: paint.muted, width: 1, type: [2, 3], opacity: 0.45 }, data: rows.map((row) => ({ xAxis: row })),
    },
  }];
}

/** The window an instant lies in; -1 where there is none. */
function rowAt(frame: Frame, at: number): number {
  const instants = (timeOf(frame)?.values ?? []) as number[];
  return instants.findIndex((start) => at >= start && at < start + (frame.stepMs ?? 0));
}

export function itemTip(build: (row: number) => HTMLElement): Option {
  return { ...TIP, trigger: 'item', formatter: (hit: { dataIndex: number }) => build(hit.dataIndex) };
}

export function lineOf(column: Column, row: number, paint: Paint): { colour: string; label: string; value: string; quiet: boolean } {
  return {
    colour: colourOf(column.mark ? 'ghost' : (column.inks?.[row] ?? column.ink), paint), label: column.label,
    value: show(column.values[row], column.units?.[row] ?? column.unit), quiet: Boolean(column.ghost || column.mark),
  };
}
