/** The tooltip, built from DOM nodes: names come from events, and text set as text cannot become markup. */

export interface Line {
  colour: string;
  label: string;
  value: string;
  quiet?: boolean;
}

function node(name: string, kind: string, text?: string): HTMLElement {
  const made = document.createElement(name);
  made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function tooltip(title: string, aside: string, lines: Line[]): HTMLElement {
  const box = node('div', 'tip');
  box.append(node('div', 'tip-title', title));
  if (aside) box.append(node('div', 'tip-aside', aside));
  for (const line of lines) {
    const row = node('div', line.quiet ? 'tip-row quiet' : 'tip-row');
    const swatch = node('span', 'tip-swatch');
    swatch.style.background = line.colour;
    row.append(swatch, node('span', 'tip-label', line.label), node('span', 'tip-value', line.value));
    box.append(row);
  }
  return box;
}
