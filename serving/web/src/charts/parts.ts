/** Parts of a whole: rose, funnel, treemap, sunburst, tree, radial bars. */

import { show } from '../lib/format';
import { FONT, hitTip, LETTER, SIZE, words, type Hit, type Room } from './cartesian';
import type { Option } from './engine';
import { labelOf, sumOf, valuesOf, type Frame } from './frame';
import { colourOf, fade, inkOver } from './paint';
import { branches, type Branch } from './tables';
import { tooltip } from './tooltip';

function parts(frame: Frame, room: Room): { name: string; value: number; row: number; itemStyle: { color: string } }[] {
  const column = valuesOf(frame)[0];
  return (labelOf(frame)?.values ?? []).map((name, row) => ({
    name: String(name), value: Number(column?.values[row] ?? 0), row, itemStyle: { color: colourOf(column?.inks?.[row] ?? { slot: row }, room.paint) },
  }));
}

function partTip(frame: Frame): Option {
  const column = valuesOf(frame)[0];
  const whole = column ? sumOf(column) : 0;
  return hitTip((hit: Hit) => {
    const value = Number(hit.value);
    return tooltip(hit.name, '', [
      { colour: 'transparent', label: column?.label ?? '', value: show(value, column?.unit ?? 'count') },
      { colour: 'transparent', label: 'Share', value: show(whole ? value / whole : 0, 'ratio'), quiet: true },
    ]);
  });
}

export function rose(frame: Frame, room: Room): Option {
  const radius = Math.min(room.width, room.height) / 2 - 4;
  return {
    tooltip: partTip(frame),
    series: [{
      type: 'pie', id: 'rose', roseType: 'radius', radius: [radius * 0.22, radius], label: { show: false }, labelLine: { show: false },
      itemStyle: { borderRadius: 3, borderColor: room.paint.surface, borderWidth: 1.5 }, data: parts(frame, room),
    }],
  };
}

/** A step as a bar as wide as its count: areas that narrow towards the next step would say less came in than did. */
export function funnel(frame: Frame, room: Room): Option {
  const column = valuesOf(frame)[0];
  const unit = column?.unit ?? 'count';
  const steps = parts(frame, room);
  const first = steps[0]?.value || 1;
  const most = Math.max(1, ...steps.map((step) => step.value));
  const before = (row: number): number => steps[row - 1]?.value || first;
  const colour = (row: number): string => fade(room.paint.accent, 1 - (row / Math.max(1, steps.length)) * 0.6);
  return {
    grid: { left: 8, right: 8, top: 6, bottom: 6 },
    xAxis: { type: 'value', min: 0, max: most, show: false },
    yAxis: { type: 'category', inverse: true, data: steps.map((step) => step.name), show: false },
    tooltip: hitTip((hit: Hit) => tooltip(steps[hit.dataIndex]?.name ?? '', '', [
      { colour: colour(hit.dataIndex), label: column?.label ?? '', value: show(steps[hit.dataIndex]?.value, unit) },
      { colour: 'transparent', label: 'Of the first', value: show((steps[hit.dataIndex]?.value ?? 0) / first, 'ratio'), quiet: true },
      { colour: 'transparent', label: 'Of the step before', value: show((steps[hit.dataIndex]?.value ?? 0) / before(hit.dataIndex), 'ratio'), quiet: true },
    ])),
    series: [{
      type: 'bar', id: 'funnel', barWidth: Math.min(38, (room.height / Math.max(1, steps.length)) * 0.42), showBackground: true,
      backgroundStyle: { color: fade(room.paint.line, 0.28), borderRadius: 4 },
      data: steps.map((step, row) => ({
        value: step.value, row: step.row, itemStyle: { color: colour(row), borderRadius: 4 },
        label: words(room.paint, {
          show: true, position: [0, -18], fontSize: SIZE + 0.5, width: room.width - 24, overflow: 'truncate',
          formatter: () => `${step.name}   ${show(step.value, unit)}${row ? `   ${show(step.value / before(row), 'ratio')} of the step before` : ''}`,
        }),
      })),
    }],
  };
}

interface Leaf {
  name: string;
  value: number;
  row: number;
  itemStyle: Option;
  label: Option;
  upperLabel?: Option;
  children?: Leaf[];
}

function leaves(tree: Branch[], room: Room, colour?: string): Leaf[] {
  return tree.filter((branch) => branch.value > 0).map((branch) => {
    const own = colour ?? colourOf(branch.ink, room.paint);
    const label = words(room.paint, { color: inkOver(own), overflow: 'truncate' });
    const leaf: Leaf = { name: branch.name, value: branch.value, row: branch.row, itemStyle: { color: own }, label };
    return branch.children.length ? { ...leaf, children: leaves(branch.children, room, own) } : leaf;
  });
}

export function treemap(frame: Frame, room: Room): Option {
  const tree = branches(frame);
  const nested = tree.some((branch) => branch.children.length);
  const gap = { borderColor: room.paint.surface, gapWidth: 2, borderWidth: 2 };
  return {
    tooltip: partTip(frame),
    series: [{
      type: 'treemap', id: 'treemap', roam: false, nodeClick: false, breadcrumb: { show: false }, left: 0, right: 0, top: 0, bottom: 0,
      itemStyle: gap, upperLabel: { show: false }, visibleMin: 1, data: leaves(tree, room),
      label: { fontSize: SIZE, fontFamily: FONT, position: 'insideTopLeft', distance: 6, lineHeight: 15 },
      levels: [{ itemStyle: gap }, {
        itemStyle: { ...gap, gapWidth: 1, borderColor: room.paint.grid }, upperLabel: words(room.paint, { show: nested, height: 20 }),
      }, { itemStyle: { borderWidth: 0, gapWidth: 1 } }],
    }],
  };
}

export function sunburst(frame: Frame, room: Room): Option {
  const radius = Math.min(room.width, room.height) / 2 - 2;
  return {
    tooltip: partTip(frame),
    series: [{
      type: 'sunburst', id: 'sunburst', radius: [radius * 0.24, radius], nodeClick: false, sort: 'desc', data: leaves(branches(frame), room),
      itemStyle: { borderColor: room.paint.surface, borderWidth: 1.5, borderRadius: 2 }, label: { minAngle: 14, fontSize: SIZE - 1, fontFamily: FONT, width: radius * 0.32, overflow: 'truncate' },
      // Along the ring there is more room than across it.
      levels: [{}, { label: { rotate: 'tangential', width: radius * 0.5 } }, { itemStyle: { opacity: 0.72 }, label: { rotate: 'tangential', width: radius * 0.55 } }],
    }],
  };
}

export function tree(frame: Frame, room: Room): Option {
  const grown = (all: Branch[]): Option[] => all.map((branch) => ({
    name: branch.name, value: branch.value, row: branch.row, symbolSize: 7, itemStyle: { color: colourOf(branch.ink, room.paint) }, children: grown(branch.children),
  }));
  const data = branches(frame);
  const whole = data.reduce((sum, branch) => sum + branch.value, 0);
  return {
    tooltip: partTip(frame),
    series: [{
      type: 'tree', id: 'tree', left: 40, right: Math.min(190, room.width * 0.44), top: 8, bottom: 8, symbol: 'circle', initialTreeDepth: 4, expandAndCollapse: false,
      lineStyle: { color: room.paint.line, width: 1 }, label: words(room.paint, { position: 'top', distance: 5, width: 110, overflow: 'truncate' }),
      leaves: { label: { position: 'right' } },
      data: [{ name: 'All', value: whole, row: -1, symbolSize: 9, itemStyle: { color: room.paint.accent }, children: grown(data) }],
    }],
  };
}

export function radialBar(frame: Frame, room: Room): Option {
  const shown = parts(frame, room).slice(0, 8);
  const column = valuesOf(frame)[0];
  // The value is told whole, the name as far as there is room left of the middle.
  const letters = Math.floor((room.width * 0.46) / LETTER);
  const worded = (name: string, i: number): string => {
    const value = show(shown[i]?.value ?? null, column?.unit ?? 'count');
    const left = letters - value.length - 2;
    return `${name.length > left ? `${name.slice(0, Math.max(1, left - 1))}…` : name}  ${value}`;
  };
  return {
    tooltip: partTip(frame), polar: { radius: ['18%', '92%'], center: ['50%', '52%'] },
    angleAxis: { max: Math.max(1e-12, ...shown.map((part) => part.value)) * 1.28, startAngle: 90, show: false },
    radiusAxis: {
      type: 'category', data: shown.map((part) => part.name), inverse: true, axisLine: { show: false }, axisTick: { show: false },
      axisLabel: words(room.paint, { interval: 0, formatter: worded }),
    },
    series: [{ type: 'bar', id: 'radial', coordinateSystem: 'polar', roundCap: true, data: shown, showBackground: true, backgroundStyle: { color: fade(room.paint.line, 0.25) } }],
  };
}
