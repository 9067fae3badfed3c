/** Colours by meaning, for canvas and page. The seven series colours keep a distance of at least 0.10 in OKLab from
 *  each other for normal, protanopic, deuteranopic and tritanopic sight (simulated after Machado 2009). */

import type { Theme } from '../lib/theme.svelte';
import type { Ink } from './frame';

export interface Paint {
  text: string;
  muted: string;
  grid: string;
  line: string;
  surface: string;
  accent: string;
  bad: string;
  good: string;
  warn: string;
  other: string;
  ghost: string;
  series: readonly string[];
}

export const PAINTS: Record<Theme, Paint> = {
  light: {
    text: '#171c26', muted: '#667085', grid: '#edf0f4', line: '#d5dae2', surface: '#ffffff', accent: '#2458d3',
    bad: '#c4320a', good: '#0b7f6f', warn: '#b25e00', other: '#b3bac6', ghost: '#a4adbb',
    series: ['#07509f', '#d87500', '#048a7e', '#996fe2', '#57cdff', '#fe97b4', '#933e05'],
  },
  dark: {
    text: '#e9edf4', muted: '#8d98aa', grid: '#222731', line: '#343b48', surface: '#14181f', accent: '#7aa2ff',
    bad: '#ff8266', good: '#45d1bd', warn: '#fbc469', other: '#5f6878', ghost: '#687386',
    series: ['#5364e1', '#fbc469', '#54e6e1', '#b8a7fe', '#4c9cb8', '#f77a5f', '#a05d71'],
  },
};

function channels(hex: string): [number, number, number] {
  const number = Number.parseInt(hex.slice(1), 16);
  return [(number >> 16) & 255, (number >> 8) & 255, number & 255];
}

export function fade(hex: string, alpha: number): string {
  const [r, g, b] = channels(hex);
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

/** Dark or light text, whichever is read better on a colour. */
export function inkOver(hex: string): string {
  const [r, g, b] = channels(hex).map((channel) => (channel / 255 <= 0.04045 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * (r ?? 0) + 0.7152 * (g ?? 0) + 0.0722 * (b ?? 0);
  return luminance > 0.179 ? '#10141c' : '#ffffff';
}

/** A colour on the way from nothing to the most there is; one hue, so that it needs no colour sight. */
export function shade(share: number, paint: Paint): string {
  return mix(paint.surface, paint.accent, 0.06 + 0.94 * Math.max(0, Math.min(1, share)));
}

/** From -1, orange, over the colour of the page to 1, blue. */
export function balance(value: number, paint: Paint): string {
  const size = Math.min(1, Math.abs(value));
  return mix(paint.surface, value < 0 ? (paint.series[1] ?? paint.warn) : (paint.series[0] ?? paint.accent), size);
}

function mix(hex: string, into: string, share: number): string {
  const to = channels(into);
  const mixed = channels(hex).map((channel, i) => Math.round(channel + ((to[i] ?? 0) - channel) * share));
  return `#${mixed.map((channel) => channel.toString(16).padStart(2, '0')).join('')}`;
}

export function colourOf(ink: Ink, paint: Paint): string {
  if (typeof ink === 'string') return paint[ink];
  const colour = paint.series[ink.slot % paint.series.length] ?? paint.other;
  // A second round of names gets the same hues half-way to the surface: still told apart, and read as less.
  return ink.slot < paint.series.length ? colour : mix(colour, paint.surface, 0.45);
}

const slots = new Map<string, Map<string, number>>();

/** Names that mean something by themselves, in fields that tell how a thing ended. */
const MEANT: Record<string, Ink> = {
  ok: 'good', success: 'good', allow: 'good', block: 'bad', error: 'bad', critical: 'bad', modify: 'warn', warning: 'warn', timeout: 'warn',
  rate_limited: { slot: 3 }, unavailable: { slot: 6 },
};
const ENDS = new Set(['status', 'guardrail_action', 'guardrail_verdict', 'severity']);

/** The colour of a name within a dimension. First come, kept for good: a refresh must not repaint the page. */
export function inkOf(dimension: string, name: string): Ink {
  const meant = ENDS.has(dimension) && Object.hasOwn(MEANT, name) ? MEANT[name] : undefined;
  if (meant) return meant;
  let named = slots.get(dimension);
  if (!named) slots.set(dimension, (named = new Map()));
  let slot = named.get(name);
  if (slot === undefined) named.set(name, (slot = named.size));
  return { slot: slot % 14 };
}
