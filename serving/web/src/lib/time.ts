/** Ranges, and how an instant is written: local on the chart, UTC beside it where one reads closely. */

export interface Range {
  id: string;
  /** "24 hours"; of a range between two instants, the two. */
  title: string;
  ms: number;
  from: string;
  to: string;
  /** Where the period of the same length before it begins. */
  before: string;
}

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export const RANGES: readonly Range[] = [
  { id: '1h', title: 'hour', ms: HOUR, from: '-1h', to: 'now', before: '-2h' },
  { id: '6h', title: '6 hours', ms: 6 * HOUR, from: '-6h', to: 'now', before: '-12h' },
  { id: '24h', title: '24 hours', ms: DAY, from: '-24h', to: 'now', before: '-48h' },
  { id: '7d', title: '7 days', ms: 7 * DAY, from: '-7d', to: 'now', before: '-14d' },
  { id: '30d', title: '30 days', ms: 30 * DAY, from: '-30d', to: 'now', before: '-60d' },
];

const LEAST_MS = 60_000;
const MOST_MS = 400 * DAY;

/** Whether a range slides with the clock, rather than lying between two instants. */
export const slides = (range: Range): boolean => range.to === 'now';

/** The name of a range between two instants, ms since the epoch, as an address keeps it. */
export const idBetween = (from: number, to: number): string => `${Math.round(from)}-${Math.round(to)}`;

/** The range of an id: one of RANGES, or two instants; null for anything else. */
export function rangeFrom(id: string): Range | null {
  const known = RANGES.find((range) => range.id === id);
  if (known) return known;
  const match = /^(\d{12,13})-(\d{12,13})$/.exec(id);
  const [from, to] = [Number(match?.[1]), Number(match?.[2])];
  const ms = to - from;
  if (!(ms >= LEAST_MS && ms <= MOST_MS)) return null;
  const iso = (at: number): string => new Date(at).toISOString();
  return { id, title: betweenWords(from, to), ms, from: iso(from), to: iso(to), before: iso(from - ms) };
}

const STEP: Record<string, number> = { m: 60_000, h: HOUR, d: DAY };

/** Milliseconds of a granularity such as `15m`; null when it is not one. */
export function stepOf(granularity: string): number | null {
  const match = /^(\d+)([mhd])$/.exec(granularity);
  return match ? Number(match[1]) * (STEP[match[2] ?? ''] ?? 0) : null;
}

/** Milliseconds of a relative time such as `-90d`; null when it is not one. */
export function spanOf(text: string): number | null {
  const match = /^-(\d+)([smhdw])$/.exec(text);
  if (!match) return null;
  return Number(match[1]) * ({ s: 1000, m: 60_000, h: HOUR, d: DAY, w: 7 * DAY }[match[2] ?? ''] ?? 0);
}

/** A step in words for a caption: `15m` is "15 min", `1h` is "hour". */
export function stepWords(granularity: string): string {
  const match = /^(\d+)([mhd])$/.exec(granularity);
  if (!match) return granularity;
  const unit = { m: 'min', h: 'hour', d: 'day' }[match[2] ?? ''] ?? '';
  if (match[1] === '1') return unit === 'min' ? 'minute' : unit;
  return unit === 'min' ? `${match[1]} min` : `${match[1]} ${unit}s`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const seconds = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const weekday = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' });
const utcClock = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZone: 'UTC',
});
const utcDay = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });

export const clockOf = (ms: number): string => clock.format(ms);
export const secondsOf = (ms: number): string => seconds.format(ms);

/** Label of an axis tick: the clock, and the date where a local day begins. */
export function tickOf(ms: number, rangeMs: number): string {
  const at = new Date(ms);
  const midnight = at.getHours() === 0 && at.getMinutes() === 0;
  if (rangeMs > 2 * DAY) return midnight ? weekday.format(ms) : clock.format(ms);
  return midnight ? day.format(ms) : clock.format(ms);
}

/** The window a point stands for, local. */
export function windowOf(ms: number, stepMs: number | null): string {
  if (!stepMs) return `${weekday.format(ms)}, ${clock.format(ms)}`;
  if (stepMs >= DAY) return weekday.format(ms);
  return `${weekday.format(ms)}, ${clock.format(ms)} – ${clock.format(ms + stepMs)}`;
}

/** "28 Nov, 20:00 – 21:30", local. */
export function betweenWords(from: number, to: number): string {
  const sameDay = day.format(from) === day.format(to);
  return `${day.format(from)}, ${clock.format(from)} – ${sameDay ? '' : `${day.format(to)}, `}${clock.format(to)}`;
}

/** A range as part of a sentence. */
export const rangeWords = (range: Range): string => (slides(range) ? `the last ${range.title}` : range.title);

/** Day and second, local: a record among others. */
export const stampOf = (ms: number): string => `${day.format(ms)}, ${seconds.format(ms)}`;

export const utcOf = (ms: number): string => `${utcDay.format(ms)}, ${utcClock.format(ms)} UTC`;

/** "3 s", "4 min", "2 h": how long ago, coarse on purpose. */
export function agoOf(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${Math.round(s / 3600)} h`;
}
