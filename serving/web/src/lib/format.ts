import type { Unit } from './measures';

const cache = new Map<string, Intl.NumberFormat>();

function fixed(value: number, digits: number, atLeast = 0): string {
  const key = `${digits}/${atLeast}`;
  let format = cache.get(key);
  if (!format) {
    format = new Intl.NumberFormat('en', { maximumFractionDigits: digits, minimumFractionDigits: atLeast });
    cache.set(key, format);
  }
  return format.format(value);
}

const SCALES: readonly [number, string][] = [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k']];

/** 1,234 stays exact below ten thousand; above, three significant digits are what a glance can hold. */
function compact(value: number, from: number): string {
  const size = Math.abs(value);
  if (size < from) return fixed(value, size >= 100 || Number.isInteger(value) ? 0 : size >= 1 ? 1 : 3);
  for (const [scale, letter] of SCALES) {
    // 999,960 must become 1M, not 1,000k.
    if (size >= scale * 0.9995) {
      const scaled = value / scale;
      return `${fixed(scaled, Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2)}${letter}`;
    }
  }
  return fixed(value, 0);
}

function dollars(value: number): string {
  const size = Math.abs(value);
  const sign = value < 0 ? '−' : '';
  if (size === 0) return '$0';
  if (size < 0.0001) return `${sign}$${size.toPrecision(2)}`;
  if (size < 0.1) return `${sign}$${fixed(size, 4, 2)}`;
  if (size < 1) return `${sign}$${fixed(size, 3, 2)}`;
  if (size < 1000) return `${sign}$${fixed(size, 2, 2)}`;
  return sign + '$' + (size < 10_000 ? fixed(size, 0) : compact(size, 10_000));
}

function milliseconds(value: number): string {
  const size = Math.abs(value);
  if (size < 1 && size > 0) return `${fixed(value, 2)} ms`;
  if (size < 999.5) return `${fixed(value, size < 10 ? 1 : 0)} ms`;
  return secondsText(value / 1000);
}

function secondsText(value: number): string {
  const size = Math.abs(value);
  if (size < 100) return `${fixed(value, size < 10 ? 2 : 1)} s`;
  if (size < 5400) return `${fixed(value / 60, 1)} min`;
  return `${fixed(value / 3600, 1)} h`;
}

function percent(ratio: number): string {
  const value = ratio * 100;
  const size = Math.abs(value);
  // Almost all is not all, and almost none is not none: rounding must not hide the exception.
  if (ratio < 1 && value > 99.995) return '>99.99%';
  if (size > 0 && size < 0.01) return '<0.01%';
  return `${fixed(value, size < 1 ? 2 : size < 10 ? 2 : size > 99 && size < 100 ? 2 : 1)}%`;
}

/** A value for reading: with its unit, three or four digits. */
export function show(value: number | string | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'string') return value;
  if (!Number.isFinite(value)) return '–';
  switch (unit) {
    case 'usd': return dollars(value);
    case 'ms': return milliseconds(value);
    case 's': return secondsText(value);
    case 'ratio': return percent(value);
    case 'rate': return `${compact(value, 10_000)}/s`;
    default: return compact(value, 10_000);
  }
}

/** A value for a table: digits enough to add up, as many in each row as to stand under each other.
 *  `largest` of its column says how many those are. */
export function exact(value: number | string | null, unit: Unit, largest = 0): string {
  if (typeof value !== 'number' || !Number.isFinite(value)) return show(value, unit);
  if (unit === 'count' || unit === 'tokens') return fixed(value, 3);
  if (unit === 'usd') {
    const digits = largest >= 1000 ? 2 : largest >= 1 ? 4 : 6;
    return `$${fixed(value, digits, digits)}`;
  }
  if (unit === 'ms') return `${fixed(value, 1)} ms`;
  return show(value, unit);
}

/** A value for an axis: short, since four of them stand in a narrow column. */
export function tick(value: number, unit: Unit): string {
  if (value === 0) return unit === 'usd' ? '$0' : unit === 'ratio' ? '0%' : '0';
  if (unit === 'usd') return value >= 1000 ? `$${compact(value, 1000)}` : `$${fixed(value, value < 0.01 ? 4 : 2)}`;
  if (unit === 'ms') return value >= 1000 ? `${fixed(value / 1000, 1)} s` : `${fixed(value, 1)} ms`;
  if (unit === 'ratio') return `${fixed(value * 100, 2)}%`;
  return compact(value, 1000);
}

/** Change against the period before, as a share; null where there is nothing to compare with. */
export function changeOf(now: number | null | undefined, before: number | null | undefined): number | null {
  if (typeof now !== 'number' || typeof before !== 'number') return null;
  if (before === 0) return now === 0 ? 0 : null;
  return now / before - 1;
}

export function changeText(change: number): string {
  const size = Math.abs(change) * 100;
  if (size < 0.05) return '0%';
  return size > 999 ? '>999%' : `${fixed(size, size < 10 ? 1 : 0)}%`;
}
