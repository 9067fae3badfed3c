/** The pages there are, in the order of the navigation. */

import type { Component } from 'svelte';
import { boardRoutes } from '../boards/routes';
import type { Route, Routed } from '../lib/router';
import type { BoardSpec } from '../panels/spec';
import { ANOMALIES } from './boards/anomalies';
import { AUDIT } from './boards/audit';
import { COSTS } from './boards/costs';
import { GATEWAY } from './boards/gateway';
import { GUARDRAILS } from './boards/guardrails';
import { HEALTH } from './boards/health';
import { LATENCY } from './boards/latency';
import { OVERVIEW } from './boards/overview';
import { REGISTRY } from './boards/registry';
import { SESSIONS } from './boards/sessions';
import Gallery from './Gallery.svelte';
import Session from './Session.svelte';
import Traces from './Traces.svelte';

/** The shipped boards by the page that shows each. */
export const BOARDS: Record<string, BoardSpec> = {
  overview: OVERVIEW, costs: COSTS, latency: LATENCY, gateway: GATEWAY, guardrails: GUARDRAILS, registry: REGISTRY, audit: AUDIT,
  sessions: SESSIONS, anomalies: ANOMALIES, health: HEALTH,
};

const page = (pattern: string, title: string, component: Component): Route => ({ pattern, title, page: component as Component<Routed> });

export const ROUTES: readonly Route[] = [
  page('traces', 'Traces', Traces), page('session', 'Session', Session), page('gallery', 'Gallery of charts', Gallery), ...boardRoutes,
];

export interface Entry {
  page: string;
  title: string;
  /** Path of a 16 by 16 drawing. */
  icon: string;
}

export const NAVIGATION: readonly { title: string; entries: Entry[] }[] = [
  { title: 'Platform', entries: [
    { page: 'overview', title: 'Overview', icon: 'M2 2.5h5v5H2zM9 2.5h5v3H9zM9 8.5h5v5H9zM2 10.5h5v3H2z' },
    { page: 'costs', title: 'Costs', icon: 'M8 1.5v13M11.5 4.5C11 3 9.500 2.800 8 2.800 6 2.800 4.500 3.700 4.500 5.300c0 3.700 7.200 1.700 7.200 5.300 0 1.700-1.700 2.600-3.700 2.600-2 0-3.500-.7-3.900-2.400' },
    { page: 'latency', title: 'Latency and reliability', icon: 'M8 14a6 6 0 1 1 0-12 6 6 0 0 1 0 12ZM8 4.800V8l2.300 1.800' },
  ] },
  { title: 'Modules', entries: [
    { page: 'gateway', title: 'Gateway', icon: 'M2 8h4l5-5h3M6 8l5 5h3M12 1.500 14 3l-2 1.500M12 11.500l2 1.500-2 1.500' },
    { page: 'guardrails', title: 'Guardrails', icon: 'M8 1.500 13.500 3.500v4.200c0 3.200-2.300 5.600-5.500 6.800-3.200-1.200-5.500-3.600-5.500-6.800V3.500zM5.700 7.800l1.700 1.700 3-3.200' },
    { page: 'registry', title: 'Registry', icon: 'M2.500 4.500 8 1.800l5.500 2.700v7L8 14.200l-5.500-2.700zM2.500 4.500 8 7.300l5.500-2.800M8 7.300v6.900' },
    { page: 'audit', title: 'Audit', icon: 'M3.500 1.800h6.500l2.500 2.500v9.900h-9zM5.800 6.500h4.400M5.800 9h4.400M5.800 11.500h2.400' },
  ] },
  { title: 'Explore', entries: [
    { page: 'traces', title: 'Traces', icon: 'M1.800 3h7M4.500 6.300h7M7 9.700h5M9.500 13h4.700' },
    { page: 'sessions', title: 'Sessions and agents', icon: 'M8 8a2.800 2.800 0 1 0 0-5.600A2.800 2.800 0 0 0 8 8ZM2.800 14c.4-2.600 2.500-4 5.200-4s4.800 1.400 5.200 4' },
    { page: 'anomalies', title: 'Anomalies', icon: 'M1.500 10.500h3l2-7 3 10 1.800-5h3.200' },
  ] },
  { title: 'Hub', entries: [
    { page: 'health', title: 'Hub health', icon: 'M8 13.800S2 10.300 2 6.200A3.200 3.200 0 0 1 8 4.700a3.200 3.200 0 0 1 6 1.500c0 4.100-6 7.600-6 7.600Z' },
    { page: 'gallery', title: 'Gallery of charts', icon: 'M2 13.500h12M4 13.500V8M8 13.500V3M12 13.500V6' },
  ] },
];
