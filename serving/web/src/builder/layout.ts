/** Places on the grid of a board: whoever is moved stands where it was put, the others make room downwards. */

import { COLUMNS, type PanelSpec, type Place } from '../panels/spec';

const ROWS_MAX = 60;
const DEEPEST = 900;

const within = (value: number, least: number, most: number): number => Math.min(Math.max(Math.round(value), least), most);

export const meets = (a: Place, b: Place): boolean => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

/** The nearest place on the grid. */
export function fitted(place: Place): Place {
  const w = within(place.w, 1, COLUMNS);
  return { x: within(place.x, 0, COLUMNS - w), y: within(place.y, 0, DEEPEST), w, h: within(place.h, 2, ROWS_MAX) };
}

/** The panels with one of them put elsewhere. */
export function moved(panels: readonly PanelSpec[], id: string, wanted: Place): PanelSpec[] {
  const place = fitted(wanted);
  const settled: Place[] = [place];
  const places = new Map([[id, place]]);
  const others = panels.filter((panel) => panel.id !== id).sort((a, b) => a.place.y - b.place.y || a.place.x - b.place.x);
  for (const panel of others) {
    let free = panel.place;
    for (let hit = settled.filter((one) => meets(one, free)); hit.length; hit = settled.filter((one) => meets(one, free))) {
      free = { ...free, y: Math.max(...hit.map((one) => one.y + one.h)) };
    }
    settled.push(free);
    places.set(panel.id, free);
  }
  return panels.map((panel) => ({ ...panel, place: places.get(panel.id) ?? panel.place }));
}

/** The first place from the top where a panel of that size has room. */
export function room(panels: readonly PanelSpec[], w: number, h: number): Place {
  const bottom = Math.max(0, ...panels.map(({ place }) => place.y + place.h));
  for (let y = 0; y < bottom; y += 1) {
    for (let x = 0; x + w <= COLUMNS; x += 1) {
      const place = { x, y, w, h };
      if (!panels.some((panel) => meets(panel.place, place))) return place;
    }
  }
  return { x: 0, y: bottom, w, h };
}
