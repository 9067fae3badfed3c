/** The pages of kept boards, registered with the router. */

import type { Component } from 'svelte';
import Builder from '../builder/Builder.svelte';
import type { Route, Routed } from '../lib/router';
import './boards.css';
import List from './List.svelte';
import Shown from './Shown.svelte';

/** A page that reads no segment may still be routed with them. */
const page = (pattern: string, title: string, component: Component<Routed>): Route => ({ pattern, title, page: component });

export const boardRoutes: Route[] = [
  page('boards', 'Boards', List as unknown as Component<Routed>), page('boards/new/:id', 'New board', Builder), page('boards/:id', 'Board', Shown), page('boards/:id/edit', 'Edit board', Builder),
];
