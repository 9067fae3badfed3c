/** Lines and areas over time. A window that the range cuts or that is not over is drawn dashed: its dip is no finding. */

import { flat, grid, markLines, timeAxis, timeTip, valueAxis, type Room } from './cartesian';
import type { Option } from './engine';
import { numbersOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, fade } from './paint';

type Filling = 'none' | 'soft' | 'strong';

function whole(values: (number | null)[], { wholeFrom, openFrom }: Frame): (number | null)[] {
  return values.map((value, i) => (i >= wholeFrom && i < openFrom ? value : null));
}

/** The windows in part, each with its whole neighbour, so that the dashes meet the line. */
function partly(values: (number | null)[], { wholeFrom, openFrom }: Frame): (number | null)[] {
  return values.map((value, i) => ((wholeFrom > 0 && i <= wholeFrom) || i >= openFrom - 1 ? value : null));
}

function lone(values: (number | null)[]): (index: number) => boolean {
  // A value between two gaps has no line to show it.
  return (i) => values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;
}

function drawn(column: Column, frame: Frame, room: Room, filling: Filling, step: boolean): Option[] {
  const colour = colourOf(column.ink, room.paint);
  const values = numbersOf(column);
  const shared = { type: 'line', name: column.label, symbol: 'circle', symbolSize: 7, showSymbol: false, silent: true, ...(step ? { step: 'middle' } : {}) };
  if (column.ghost) {
    const lineStyle = { color: colour, width: 1.25, type: [2, 3] };
    return [{ ...shared, id: column.key, data: values, lineStyle, itemStyle: { color: colour }, z: 1 }];
  }
  const depth = { none: 0, soft: 0.16, strong: 0.3 }[filling];
  const area = depth
    ? { areaStyle: { color: { type: 'linear', x: 0, y: 0, x2: 0, y2: 1,
        colorStops: [{ offset: 0, color: fade(colour, depth) }, { offset: 1, color: fade(colour, depth / 8) }] } } }
    : {};
  const solid = whole(values, frame);
  const single = lone(solid);
  const line: Option = {
    ...shared, id: column.key, ...area, lineStyle: { color: colour, width: 1.75 }, itemStyle: { color: colour }, z: 3,
    data: solid.map((value, i) => (single(i) ? { value, symbol: 'circle', symbolSize: 5 } : { value, symbol: 'none' })),
    showSymbol: true,
  };
  if (frame.wholeFrom === 0 && frame.openFrom >= frame.rows) return [line];
  const dashed = { color: colour, width: 1.5, type: [3, 4], opacity: 0.75 };
  return [line, {
    ...shared, id: `${column.key} partly`, data: partly(values, frame), lineStyle: dashed, itemStyle: { color: colour }, z: 3,
  }];
}

function lines(frame: Frame, room: Room, filling: Filling, step = false): Option {
  const columns = valuesOf(frame);
  const filled: Filling = columns.filter((column) => !column.ghost).length > 1 ? 'none' : filling;
  return {
    grid: grid(), tooltip: timeTip(frame, room),
    xAxis: { ...timeAxis(frame, room), boundaryGap: false },
    yAxis: valueAxis(columns[0]?.unit ?? 'count', room, flat(columns)),
    series: [...columns.flatMap((column) => drawn(column, frame, room, filled, step)), ...markLines(frame, room)],
  };
}

export const line = (frame: Frame, room: Room): Option => lines(frame, room, 'soft');
export const area = (frame: Frame, room: Room): Option => lines(frame, room, 'strong');
export const stepLine = (frame: Frame, room: Room): Option => lines(frame, room, 'soft', true);

/** Areas on top of each other, as amounts or as shares of their window. */
function stacked(frame: Frame, room: Room, shares: boolean): Option {
  const columns = valuesOf(frame).filter((column) => !column.ghost);
  const totals = Array.from({ length: frame.rows }, (_, row) => columns.reduce((sum, column) => sum + Number(column.values[row] ?? 0), 0));
  const value = (column: Column, row: number): number => {
    const amount = Number(column.values[row] ?? 0);
    return shares ? (totals[row] ? amount / (totals[row] as number) : 0) : amount;
  };
  return {
    grid: grid(), tooltip: timeTip(frame, room, 'stacked'), xAxis: { ...timeAxis(frame, room), boundaryGap: false },
    yAxis: valueAxis(shares ? 'ratio' : (columns[0]?.unit ?? 'count'), room, shares ? { max: 1, interval: 0.25 } : {}),
    series: [
      ...columns.map((column) => {
        const colour = colourOf(column.ink, room.paint);
        return {
          type: 'line', id: column.key, name: column.label, stack: 'all', silent: true, symbol: 'none', z: 2,
          lineStyle: { width: 1, color: colour }, areaStyle: { color: fade(colour, 0.72) }, itemStyle: { color: colour },
          data: column.values.map((_, row) => value(column, row)),
        };
      }),
      ...markLines(frame, room),
    ],
  };
}

export const stackedArea = (frame: Frame, room: Room): Option => stacked(frame, room, false);
export const shareArea = (frame: Frame, room: Room): Option => stacked(frame, room, true);
