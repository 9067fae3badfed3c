/** Records with an instant or a duration: a timeline of events, and the spans of a trace as flames. */

import { show } from '../lib/format';
import { secondsOf, tickOf, utcOf } from '../lib/time';
import { FONT, grid, hitTip, nameAxis, SIZE, valueAxis, type Hit, type Room } from './cartesian';
import type { Option } from './engine';
import { dimensionsOf, labelOf, type Column, type Frame } from './frame';
import { colourOf, inkOf, inkOver } from './paint';
import { tooltip } from './tooltip';

const named = (frame: Frame, key: string): Column | undefined => frame.columns.find((column) => column.key === key);

/** Each record as a mark at its time; one lane for each value of its first text. */
export function timeline(frame: Frame, room: Room): Option {
  const time = frame.columns.find((column) => column.unit === 'time');
  const lane = labelOf(frame) ?? dimensionsOf(frame).find((column) => column.unit === 'text');
  if (!time || !lane) return {};
  const lanes = [...new Set(lane.values.map((value) => String(value ?? '(none)')))];
  const rest = frame.columns.filter((column) => column !== time && column !== lane && column.role !== 'note');
  const data = lane.values.map((value, row) => ({
    value: [time.values[row], String(value ?? '(none)')], row, itemStyle: { color: colourOf(inkOf(lane.key, String(value ?? '(none)')), room.paint), opacity: 0.8 },
  }));
  return {
    grid: grid({ top: 4, right: 14 }),
    xAxis: { type: 'time', axisLabel: { color: room.paint.muted, fontSize: SIZE, fontFamily: FONT, hideOverlap: true, formatter: (ms: number) => tickOf(ms, room.rangeMs) }, axisLine: { lineStyle: { color: room.paint.line } }, axisTick: { show: false }, splitLine: { show: false } },
    yAxis: nameAxis(lanes, room, { inverse: true, axisLine: { show: false }, axisLabel: { color: room.paint.muted, fontSize: SIZE, fontFamily: FONT, width: Math.min(150, room.width * 0.3), overflow: 'truncate', ellipsis: '…' }, splitLine: { show: true, lineStyle: { color: room.paint.grid } } }),
    tooltip: hitTip((hit: Hit) => {
      const row = Number(hit.data['row']);
      const at = Number(time.values[row]);
      const lines = rest.filter((column) => column.values[row] !== null).slice(0, 6).map((column) => ({ colour: 'transparent', label: column.label, value: column.unit === 'time' ? utcOf(Number(column.values[row])) : show(column.values[row], column.unit) }));
      return tooltip(String(lane.values[row] ?? ''), `${secondsOf(at)} · ${utcOf(at)}`, lines);
    }),
    series: [{ type: 'scatter', id: 'events', symbolSize: 9, data }],
  };
}

/** Spans by when they ran and how deep they were called; roots on top. */
export function flame(frame: Frame, room: Room): Option {
  const [name, offset, duration, depth, service] = ['name', 'offset', 'duration', 'depth', 'service'].map((key) => named(frame, key));
  if (!name || !offset || !duration || !depth || !service) return {};
  const deepest = Math.max(0, ...depth.values.map(Number));
  const colour = (row: number): string => colourOf(inkOf('service', String(service.values[row])), room.paint);
  return {
    grid: grid({ top: 4 }), xAxis: valueAxis('ms', room, { max: 'dataMax', splitLine: { lineStyle: { color: room.paint.grid } } }),
    yAxis: { type: 'value', min: -0.5, max: Math.max(deepest + 0.5, (room.height - 30) / 26), inverse: true, show: false },
    tooltip: hitTip((hit: Hit) => {
      const row = hit.dataIndex;
      return tooltip(String(name.values[row]), String(service.values[row]), [
        { colour: colour(row), label: 'Duration', value: show(duration.values[row], 'ms') }, { colour: 'transparent', label: 'Began after', value: show(offset.values[row], 'ms'), quiet: true },
      ]);
    }),
    series: [{
      type: 'custom', id: 'flame', encode: { x: [0, 1], y: 2 },
      data: name.values.map((_, row) => [Number(offset.values[row]), Number(offset.values[row]) + Number(duration.values[row] ?? 0), Number(depth.values[row])]),
      renderItem: (at: { dataIndex: number }, api: { coord(value: number[]): number[]; size(value: number[]): number[] }) => {
        const row = at.dataIndex;
        const [x = 0, y = 0] = api.coord([Number(offset.values[row]), Number(depth.values[row])]);
        const width = Math.max(1.5, (api.size([Number(duration.values[row] ?? 0), 0])[0] ?? 0));
        const height = Math.min(22, (api.size([0, 1])[1] ?? 18) - 1);
        const fill = colour(row);
        const text = width > 34 ? { textContent: { type: 'text', style: { text: String(name.values[row]), fill: inkOver(fill), fontSize: SIZE - 1, fontFamily: FONT, width: width - 8, overflow: 'truncate' } }, textConfig: { position: 'insideLeft', distance: 4 } } : {};
        return { type: 'rect', shape: { x, y: y - height / 2, width, height, r: 2 }, style: { fill }, ...text };
      },
    }],
  };
}
