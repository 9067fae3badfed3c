/** Which page an address opens. A pattern is segments between slashes; `:name` takes any one segment. */

import type { Component } from 'svelte';

/** What a routed page is given: the named segments of the address. */
export interface Routed {
  segments: Record<string, string>;
}

export interface Route {
  /** As `boards/:id/edit`, without the leading `#/`. */
  pattern: string;
  title: string;
  page: Component<Routed>;
  /** Drawn without navigation and header, and without asking for a key: for frames of other pages. */
  bare?: boolean;
}

/** The named segments where `path` fits `pattern`, else null. */
export function segmentsOf(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split('/');
  const given = path.split('/').filter(Boolean);
  if (wanted.length !== given.length) return null;
  const named: Record<string, string> = {};
  for (const [place, part] of wanted.entries()) {
    const segment = given[place] ?? '';
    if (part.startsWith(':')) {
      try {
        named[part.slice(1)] = decodeURIComponent(segment);
      } catch {
        return null;
      }
    } else if (part !== segment) return null;
  }
  return named;
}

export function matched(routes: readonly Route[], path: string): { route: Route; segments: Record<string, string> } | null {
  for (const route of routes) {
    const segments = segmentsOf(route.pattern, path);
    if (segments) return { route, segments };
  }
  return null;
}
