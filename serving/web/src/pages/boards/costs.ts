/** What is spent, on what, by whom. */

import type { BoardSpec } from '../../panels/spec';
import { PLATFORM } from './variables';

const PRICED = 'Send cost_usd with a request, or its tokens and a model whose price the hub knows.';
const COST = ['cost_usd'];

export const COSTS: BoardSpec = {
  title: 'Costs', variables: PLATFORM, annotations: true,
  kpis: [
    { measure: 'cost_usd', title: 'Cost', worse: 'more' },
    { measure: 'request_count', title: 'Requests', worse: 'neither' },
    { measure: 'total_tokens', title: 'Tokens', worse: 'neither' },
    { measure: 'cache_read_tokens', title: 'Tokens read from cache', worse: 'less' },
    { measure: 'unique_users', title: 'Users', worse: 'neither' },
  ],
  panels: [
    { id: 'spend', title: 'Cost over time by model', kind: 'stacked_bar', place: { x: 0, y: 0, w: 8, h: 6 }, empty: PRICED,
      query: { kind: 'timeseries', measure: COST, group_by: ['model'], fill: 'zero' } },
    { id: 'providers', title: 'By provider', kind: 'pie', place: { x: 8, y: 0, w: 4, h: 6 }, empty: PRICED,
      query: { kind: 'top', measure: COST, group_by: ['provider'], limit: 6 } },
    { id: 'flow', title: 'From service to model', note: 'width is cost', kind: 'sankey', place: { x: 0, y: 6, w: 7, h: 7 }, empty: `${PRICED} Name its service as well.`,
      query: { kind: 'aggregate', measure: COST, group_by: ['service', 'model'], order: ['-cost_usd'], limit: 30 } },
    { id: 'unit-cost', title: 'Cost per request by model', kind: 'horizontal_bar', place: { x: 7, y: 6, w: 5, h: 7 }, empty: PRICED,
      query: { kind: 'aggregate', measure: ['request_count'], calculate: ['cost_per_request=cost_usd / request_count'], group_by: ['model'], having: ['request_count:gt:0'], order: ['-cost_per_request'], limit: 10 },
      draw: { hide: ['request_count'], titles: { cost_per_request: 'Cost per request' } } },
    { id: 'change', title: 'Against the period before', note: 'cost by model', kind: 'table', place: { x: 0, y: 13, w: 7, h: 6 }, empty: PRICED,
      query: { kind: 'aggregate', measure: ['cost_usd', 'request_count'], group_by: ['model'], order: ['-cost_usd'], limit: 20, compare: 'previous' } },
    { id: 'users', title: 'Users by cost', note: 'the ten largest, and their share of these', kind: 'pareto', place: { x: 7, y: 13, w: 5, h: 6 }, drill: { page: 'sessions' },
      empty: `${PRICED} Name its user_id as well.`, query: { kind: 'aggregate', measure: COST, group_by: ['user_id'], filter: ['user_id:exists:true'], order: ['-cost_usd'], limit: 10 } },
    { id: 'teams', title: 'Teams and their features', note: 'area is cost', kind: 'treemap', place: { x: 0, y: 19, w: 7, h: 6 }, empty: `${PRICED} Name attributes.team and attributes.feature as well.`,
      query: { kind: 'aggregate', measure: COST, group_by: ['attributes.team', 'attributes.feature'], filter: ['attributes.team:exists:true'], order: ['-cost_usd'], limit: 40 } },
    { id: 'keys', title: 'By key', note: 'as the gateway names it', kind: 'horizontal_bar', place: { x: 7, y: 19, w: 5, h: 6 }, empty: `${PRICED} Name attributes.key_alias as well.`,
      query: { kind: 'cost_allocation', group_by: ['attributes.key_alias'], limit: 8 }, draw: { hide: ['request_count', 'total_tokens'] } },
    { id: 'tenants', title: 'By tenant', note: 'all that the key may see', kind: 'horizontal_bar', place: { x: 0, y: 25, w: 5, h: 6 }, empty: PRICED,
      query: { kind: 'tenant_costs', limit: 12 }, draw: { hide: ['request_count', 'total_tokens'] } },
    { id: 'features', title: 'By feature', note: 'what names none is unallocated', kind: 'horizontal_bar', place: { x: 5, y: 25, w: 7, h: 6 }, empty: `${PRICED} Name attributes.feature as well.`,
      query: { kind: 'cost_allocation', group_by: ['attributes.feature'], limit: 10 }, draw: { hide: ['request_count', 'total_tokens'] } },
    { id: 'tokens', title: 'Tokens by kind', kind: 'stacked_area', place: { x: 0, y: 31, w: 7, h: 6 }, empty: 'Send input_tokens and output_tokens with a request.',
      query: { kind: 'timeseries', measure: ['input_uncached_tokens', 'cache_read_tokens', 'cache_write_tokens', 'output_text_tokens', 'reasoning_tokens'], fill: 'zero' } },
    { id: 'days', title: 'Cost by day', kind: 'calendar', place: { x: 7, y: 31, w: 5, h: 6 }, empty: PRICED,
      query: { kind: 'timeseries', measure: COST, from: '-90d', granularity: '1d', fill: 'none' } },
  ],
};
