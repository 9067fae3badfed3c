/** The measures as the page names them. Units are spelled by the hub; where an answer has none, the name tells it. */

export type Unit = 'count' | 'tokens' | 'usd' | 'ms' | 's' | 'ratio' | 'rate' | 'text' | 'time';

const TITLES: Record<string, string> = {
  request_count: 'Requests',
  error_count: 'Errors',
  error_ratio: 'Error rate',
  latency_ms_avg: 'Average latency',
  latency_ms_p50: 'Median latency',
  latency_ms_p95: 'p95 latency',
  latency_ms_p99: 'p99 latency',
  latency_ms_max: 'Slowest',
  input_tokens: 'Input',
  output_tokens: 'Output',
  input_uncached_tokens: 'Input, uncached',
  output_text_tokens: 'Output',
  total_tokens: 'Tokens',
  cache_read_tokens: 'Cache read',
  cache_write_tokens: 'Cache write',
  reasoning_tokens: 'Reasoning',
  cost_usd: 'Cost',
  event_count: 'Events',
  ttft_ms_p50: 'Median first token',
  ttft_ms_p95: 'p95 first token',
  tokens_per_s: 'Tokens per second',
  cache_hit_ratio: 'Cache hits',
  unique_users: 'Users',
  unique_sessions: 'Sessions',
  guardrail_count: 'Evaluations',
  guardrail_block_ratio: 'Blocked',
  p50: 'Median',
};

const FIELDS: Record<string, string> = { user_id: 'User', session_id: 'Session', trace_id: 'Trace', tenant_id: 'Tenant', occurred_at: 'Time', latency_ms: 'Latency', ttft_ms: 'First token', cost_usd: 'Cost' };

/** A field of events as a heading: `attributes.team` is "Team", `guardrail_action` "Guardrail action". */
export function fieldTitle(field: string): string {
  const words = field.replace(/^attributes\./, '').replaceAll('_', ' ');
  return FIELDS[field] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

export function titleOf(measure: string): string {
  const words = measure.replaceAll('_', ' ');
  if (/^p[\d.]+$/.test(measure)) return TITLES[measure] ?? measure;
  return TITLES[measure] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

export function unitOf(measure: string, spelled?: string): Unit {
  if (/_per_s$/.test(measure)) return 'rate';
  if (/_ratio$/.test(measure) || spelled === 'ratio') return 'ratio';
  if (/_usd$|^cost_per_/.test(measure) || /^usd$/i.test(spelled ?? '')) return 'usd';
  if (/_ms(_|$)/.test(measure) || /^p[\d.]+$/.test(measure) || spelled === 'ms') return 'ms';
  if (/_s$/.test(measure) || spelled === 's') return 's';
  if (/_tokens$/.test(measure) || spelled === 'tokens') return 'tokens';
  return 'count';
}

/** Whether the parts of a measure may be added: only then can small groups be folded into "Other". */
export function additive(measure: string): boolean {
  return ['count', 'tokens', 'usd'].includes(unitOf(measure)) && !measure.startsWith('unique_');
}
