/** Every kind of chart there is. A new kind is one line here and a builder; the gallery and the picker read this table. */

import type { Component } from 'svelte';
import { bar, horizontalBar, stackedBar } from './bars';
import type { Room } from './cartesian';
import type { Option } from './engine';
import Canvas from './Canvas.svelte';
import type { Frame } from './frame';
import Gauges from './Gauges.svelte';
import { area, line } from './lines';
import { pie } from './pie';

/** What every chart component is given. */
export interface Drawn {
  frame: Frame;
  kind: ChartKind;
  /** Said to those who cannot see the chart. */
  label: string;
  rangeMs: number;
}

export interface ChartKind {
  title: string;
  /** Frames it can draw: windows over time, named rows, or dials. */
  draws: 'windows' | 'rows' | 'dials';
  /** Where the names of the colours stand: a chart whose axis has the names needs none. */
  legend: 'below' | 'beside' | 'none';
  component: Component<Drawn>;
  /** What the canvas draws; kinds with a component of their own have none. */
  option?: (frame: Frame, room: Room) => Option;
}

export const CHARTS = {
  line: { title: 'Line', draws: 'windows', legend: 'below', component: Canvas, option: line },
  area: { title: 'Area', draws: 'windows', legend: 'below', component: Canvas, option: area },
  stacked_bar: { title: 'Stacked bars', draws: 'windows', legend: 'below', component: Canvas, option: stackedBar },
  bar: { title: 'Bars', draws: 'rows', legend: 'none', component: Canvas, option: bar },
  horizontal_bar: { title: 'Horizontal bars', draws: 'rows', legend: 'none', component: Canvas, option: horizontalBar },
  pie: { title: 'Ring', draws: 'rows', legend: 'beside', component: Canvas, option: pie },
  gauge: { title: 'Gauges', draws: 'dials', legend: 'none', component: Gauges },
} as const satisfies Record<string, ChartKind>;

export type ChartKindName = keyof typeof CHARTS;

export const kindOf = (name: ChartKindName): ChartKind => CHARTS[name];
