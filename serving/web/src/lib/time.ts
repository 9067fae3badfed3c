/** Ranges, and how an instant is written: local on the chart, UTC beside it where one reads closely. */

export interface Range {
  id: string;
  title: string;
  ms: number;
  from: string;
  /** Where the period of the same length before it begins. */
  before: string;
}

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export const RANGES: readonly Range[] = [
  { id: '1h', title: 'hour', ms: HOUR, from: '-1h', before: '-2h' },
  { id: '6h', title: '6 hours', ms: 6 * HOUR, from: '-6h', before: '-12h' },
  { id: '24h', title: '24 hours', ms: DAY, from: '-24h', before: '-48h' },
  { id: '7d', title: '7 days', ms: 7 * DAY, from: '-7d', before: '-14d' },
];

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
