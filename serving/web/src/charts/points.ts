/** Rows as points: scatter, bubble, scatter matrix, parallel axes, radar, lollipop; and places on a map. */

import { show, tick } from '../lib/format';
import { windowOf } from '../lib/time';
import { FONT, grid, hitTip, nameAxis, SIZE, valueAxis, words, type Hit, type Room } from './cartesian';
import { rowName } from './crossings';
import type { Option } from './engine';
import { labelOf, numbersOf, timeOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, fade } from './paint';
import { placeOf } from './places';
import { tooltip } from './tooltip';

const drawnOf = (frame: Frame): Column[] => valuesOf(frame).filter((column) => !column.ghost);

function nameOfRow(frame: Frame, row: number): string {
  const time = timeOf(frame);
  return time ? windowOf(Number(time.values[row]), frame.stepMs) : rowName(frame, row);
}

function pointTip(frame: Frame): Option {
  return hitTip((hit: Hit) => {
    const row = Number(hit.data['row']);
    return tooltip(nameOfRow(frame, row), '', drawnOf(frame).map((column) => ({ colour: 'transparent', label: column.label, value: show(column.values[row], column.unit) })));
  });
}

function points(frame: Frame, room: Room, sized: boolean): Option {
  const [x, y, size] = drawnOf(frame);
  if (!x || !y) return {};
  const most = Math.max(1e-12, ...numbersOf(size ?? y).map((value) => value ?? 0));
  const named = labelOf(frame) !== undefined && frame.rows <= 12;
  const data = Array.from({ length: frame.rows }, (_, row) => ({
    value: [x.values[row], y.values[row]], name: rowName(frame, row), row,
    symbolSize: sized && size ? 8 + 40 * Math.sqrt(Number(size.values[row] ?? 0) / most) : named ? 11 : 7,
    itemStyle: { color: fade(colourOf(x.inks?.[row] ?? 'accent', room.paint), 0.72), borderColor: colourOf(x.inks?.[row] ?? 'accent', room.paint) },
  }));
  const name = { nameTextStyle: { color: room.paint.muted, fontSize: SIZE, fontFamily: FONT }, boundaryGap: [0, '12%'] };
  return {
    grid: grid({ top: 26, right: 24, bottom: 20 }), tooltip: pointTip(frame),
    xAxis: valueAxis(x.unit, room, { ...name, name: x.label, nameLocation: 'middle', nameGap: 26, splitLine: { show: false } }),
    yAxis: valueAxis(y.unit, room, { ...name, name: y.label, nameTextStyle: { ...name.nameTextStyle, align: 'left' } }),
    series: [{ type: 'scatter', id: 'points', data, label: words(room.paint, { show: named, position: 'top', formatter: '{b}', width: 110, overflow: 'truncate', color: room.paint.muted }), labelLayout: { hideOverlap: true } }],
  };
}

export const scatter = (frame: Frame, room: Room): Option => points(frame, room, false);
export const bubble = (frame: Frame, room: Room): Option => points(frame, room, true);

/** Every measure against every other; on the diagonal its name. */
export function scatterMatrix(frame: Frame, room: Room): Option {
  const columns = drawnOf(frame).slice(0, 5);
  const n = columns.length;
  const cell = { w: (room.width - 8) / n, h: (room.height - 8) / n };
  const at = (i: number): { x: number; y: number } => ({ x: i % n, y: Math.floor(i / n) });
  const cells = Array.from({ length: n * n }, (_, i) => i);
  // The name stands at 0, 0 in the middle of its cell.
  const middle = (i: number): Option => (at(i).x === at(i).y ? { min: -1, max: 1 } : {});
  const bare = { type: 'value', scale: true, axisLabel: { show: false }, axisTick: { show: false }, axisLine: { show: false }, splitLine: { show: false } };
  return {
    tooltip: pointTip(frame),
    grid: cells.map((i) => ({ left: 4 + at(i).x * cell.w + 3, top: 4 + at(i).y * cell.h + 3, width: cell.w - 6, height: cell.h - 6, show: true, borderColor: room.paint.grid, borderWidth: 1 })),
    xAxis: cells.map((i) => ({ ...bare, ...middle(i), gridIndex: i })), yAxis: cells.map((i) => ({ ...bare, ...middle(i), gridIndex: i })),
    series: cells.map((i) => {
      const { x, y } = at(i);
      const [across, down] = [columns[x] as Column, columns[y] as Column];
      if (x === y) {
        return {
          type: 'scatter', id: `name ${i}`, xAxisIndex: i, yAxisIndex: i, silent: true, symbolSize: 0, data: [[0, 0]],
          label: words(room.paint, { show: true, position: 'inside', formatter: () => across.label, width: cell.w - 8, overflow: 'break', lineHeight: 13, fontSize: SIZE - 1, fontWeight: 600 }),
        };
      }
      return {
        type: 'scatter', id: `cell ${i}`, xAxisIndex: i, yAxisIndex: i, symbolSize: 4, itemStyle: { color: fade(room.paint.accent, 0.6) },
        data: Array.from({ length: frame.rows }, (_, row) => ({ value: [across.values[row], down.values[row]], row })),
      };
    }),
  };
}

export function parallel(frame: Frame, room: Room): Option {
  const columns = drawnOf(frame);
  const colour = (row: number): string => colourOf(columns[0]?.inks?.[row] ?? 'accent', room.paint);
  return {
    tooltip: pointTip(frame), parallel: { left: 34, right: 48, top: 34, bottom: 12 },
    parallelAxis: columns.map((column, dim) => ({
      dim, name: column.label, min: 0, nameTextStyle: words(room.paint, { color: room.paint.muted }), axisLine: { lineStyle: { color: room.paint.line } }, axisTick: { show: false },
      axisLabel: { color: room.paint.muted, fontSize: SIZE - 1, fontFamily: FONT, formatter: (value: number) => tick(value, column.unit), hideOverlap: true, showMaxLabel: false }, splitNumber: 3,
    })),
    series: [{ type: 'parallel', id: 'parallel', smooth: 0.12, data: Array.from({ length: frame.rows }, (_, row) => ({
      value: columns.map((column) => column.values[row]), name: rowName(frame, row), row, lineStyle: { color: colour(row), width: 2, opacity: 0.8 },
    })) }],
  };
}

/** Each measure as a share of its largest value, since their units differ. */
export function radar(frame: Frame, room: Room): Option {
  const columns = drawnOf(frame);
  const most = columns.map((column) => Math.max(1e-12, ...numbersOf(column).map((value) => value ?? 0)));
  const rows = Array.from({ length: Math.min(6, frame.rows) }, (_, row) => row);
  return {
    tooltip: pointTip(frame),
    radar: {
      radius: '68%', center: ['50%', '54%'], splitNumber: 4, indicator: columns.map((column) => ({ name: column.label, max: 1 })), axisName: words(room.paint, { color: room.paint.muted }),
      axisLine: { lineStyle: { color: room.paint.line } }, splitLine: { lineStyle: { color: room.paint.grid } }, splitArea: { show: false },
    },
    series: [{ type: 'radar', id: 'radar', symbolSize: 4, data: rows.map((row) => {
      const colour = colourOf(columns[0]?.inks?.[row] ?? { slot: row }, room.paint);
      return { name: rowName(frame, row), row, value: columns.map((column, i) => Number(column.values[row] ?? 0) / (most[i] ?? 1)), lineStyle: { color: colour, width: 2 }, itemStyle: { color: colour }, areaStyle: { color: fade(colour, 0.08) } };
    }) }],
  };
}

export function lollipop(frame: Frame, room: Room): Option {
  const [first, second] = drawnOf(frame);
  const names = (labelOf(frame)?.values ?? []).map(String);
  if (!first) return {};
  const ends = second ?? first;
  return {
    grid: grid({ right: 18 }), tooltip: pointTip(frame), xAxis: valueAxis(first.unit, room),
    yAxis: nameAxis(names, room, { inverse: true, axisLine: { show: false }, axisLabel: { ...(nameAxis([], room)['axisLabel'] as Option), interval: 0, color: room.paint.text } }),
    series: [
      { type: 'custom', id: 'sticks', silent: true, tooltip: { show: false }, data: names.map((_, row) => row), renderItem: (at: { dataIndex: number }, api: { coord(value: number[]): number[] }) => {
        const row = at.dataIndex;
        const [x1 = 0, y = 0] = api.coord([second ? Number(first.values[row] ?? 0) : 0, row]);
        const [x2 = 0] = api.coord([Number(ends.values[row] ?? 0), row]);
        return { type: 'line', shape: { x1, x2, y1: y, y2: y }, style: { stroke: room.paint.line, lineWidth: 3 } };
      } },
      ...[first, ...(second ? [second] : [])].map((column, i) => ({
        type: 'scatter', id: column.key, symbolSize: 11, data: names.map((_, row) => ({ value: [column.values[row], row], row, itemStyle: { color: i ? room.paint.warn : colourOf(column.inks?.[row] ?? 'accent', room.paint) } })),
      })),
    ],
  };
}

export function geo(frame: Frame, room: Room): Option {
  const column = drawnOf(frame)[0];
  if (!column) return {};
  const most = Math.max(1e-12, ...numbersOf(column).map((value) => value ?? 0));
  const data = Array.from({ length: frame.rows }, (_, row) => ({ row, place: placeOf(rowName(frame, row)), amount: Number(column.values[row] ?? 0) }))
    .flatMap(({ row, place, amount }) => (place ? [{ name: rowName(frame, row), row, value: [...place, amount], symbolSize: 8 + 30 * Math.sqrt(amount / most) }] : []));
  return {
    tooltip: pointTip(frame),
    geo: { map: 'land', silent: true, roam: false, left: 4, right: 4, top: 4, bottom: 4, itemStyle: { areaColor: room.paint.grid, borderColor: room.paint.line, borderWidth: 0.6 } },
    series: [{
      type: 'scatter', id: 'places', coordinateSystem: 'geo', data, itemStyle: { color: fade(room.paint.accent, 0.7), borderColor: room.paint.accent },
      label: words(room.paint, { show: true, position: 'right', formatter: (hit: Hit) => `${hit.name}  ${show(Number((hit.value as number[])[2]), column.unit)}` }), labelLayout: { hideOverlap: true },
    }],
  };
}
