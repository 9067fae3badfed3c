/** A part of the page as a PNG: its boxes, its canvases, its drawings and its words, painted where they stand. */

import { hand } from './files';
import { pdfOf } from './pdf';

const SCALE = 2;
const POINTS_PER_PX = 0.75;
/** Longest side that every browser still paints. */
const SIDE_MAX = 16_000;

function box(at: CanvasRenderingContext2D, style: CSSStyleDeclaration, rect: DOMRect): void {
  const radius = Number.parseFloat(style.borderTopLeftRadius) || 0;
  at.beginPath();
  at.roundRect(rect.x, rect.y, rect.width, rect.height, Math.min(radius, rect.width / 2, rect.height / 2));
  at.fillStyle = style.backgroundColor;
  at.fill();
  const width = Number.parseFloat(style.borderTopWidth);
  if (width > 0 && style.borderTopStyle !== 'none' && style.borderLeftStyle !== 'none') {
    at.lineWidth = width;
    at.strokeStyle = style.borderTopColor;
    at.stroke();
  }
}

function outlineOf(shape: SVGGraphicsElement): Path2D | null {
  const number = (name: string): number => Number(shape.getAttribute(name) ?? 0);
  if (shape instanceof SVGPathElement) return new Path2D(shape.getAttribute('d') ?? '');
  const path = new Path2D();
  if (shape instanceof SVGRectElement) path.rect(shape.x.baseVal.value, shape.y.baseVal.value, shape.width.baseVal.value, shape.height.baseVal.value);
  else if (shape instanceof SVGCircleElement) path.arc(number('cx'), number('cy'), number('r'), 0, 2 * Math.PI);
  else if (shape instanceof SVGLineElement) {
    path.moveTo(shape.x1.baseVal.value, shape.y1.baseVal.value);
    path.lineTo(shape.x2.baseVal.value, shape.y2.baseVal.value);
  } else return null;
  return path;
}

function drawing(at: CanvasRenderingContext2D, shape: SVGGraphicsElement, style: CSSStyleDeclaration): void {
  const outline = outlineOf(shape);
  const matrix = shape.getScreenCTM();
  if (!outline || !matrix) return;
  at.save();
  at.transform(matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f);
  at.globalAlpha = Number(style.opacity);
  if (style.fill !== 'none') {
    at.fillStyle = style.fill;
    at.fill(outline);
  }
  if (style.stroke !== 'none') {
    at.strokeStyle = style.stroke;
    at.lineWidth = Number.parseFloat(style.strokeWidth) || 1;
    at.lineCap = style.strokeLinecap as CanvasLineCap;
    at.stroke(outline);
  }
  at.restore();
}

function words(at: CanvasRenderingContext2D, node: Text): void {
  const parent = node.parentElement;
  if (!parent || !node.data.trim()) return;
  const style = getComputedStyle(parent);
  const range = document.createRange();
  range.selectNodeContents(node);
  const lines = [...range.getClientRects()];
  const [first] = lines;
  if (!first || first.width < 2) return;
  at.save();
  at.beginPath();
  const within = parent.getBoundingClientRect();
  at.rect(within.x, within.y, Math.max(within.width, first.width), within.height);
  at.clip();
  at.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  at.fillStyle = style.color;
  at.textBaseline = 'middle';
  // Words of a text that wraps go line by line: each on the line where it stands.
  for (const match of node.data.matchAll(/\S+/g)) {
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    const where = range.getBoundingClientRect();
    at.fillText(match[0], where.x, where.y + where.height / 2);
  }
  at.restore();
}

function paint(at: CanvasRenderingContext2D, root: Element): void {
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) => {
    if (node instanceof Element && (node.matches('button, [popover], [data-builder], .unseen') || getComputedStyle(node).visibility === 'hidden')) return NodeFilter.FILTER_REJECT;
    return NodeFilter.FILTER_ACCEPT;
  });
  for (let node: Node | null = root; node; node = walk.nextNode()) {
    if (node instanceof Text) words(at, node);
    else if (node instanceof HTMLCanvasElement) {
      const rect = node.getBoundingClientRect();
      at.drawImage(node, rect.x, rect.y, rect.width, rect.height);
    } else if (node instanceof SVGGraphicsElement) drawing(at, node, getComputedStyle(node));
    else if (node instanceof HTMLElement) {
      const style = getComputedStyle(node);
      if (style.backgroundColor !== 'rgba(0, 0, 0, 0)' || style.borderTopWidth !== '0px') box(at, style, node.getBoundingClientRect());
    }
  }
}

/** An element as it stands now, twice as fine as the screen. */
function painted(root: Element): HTMLCanvasElement {
  const rect = root.getBoundingClientRect();
  const scale = Math.min(SCALE, SIDE_MAX / Math.max(rect.width, rect.height, 1));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(rect.width * scale));
  canvas.height = Math.max(1, Math.round(rect.height * scale));
  const at = canvas.getContext('2d');
  if (!at) throw new Error('this browser paints no pictures');
  at.scale(scale, scale);
  at.translate(-rect.x, -rect.y);
  at.fillStyle = getComputedStyle(document.body).backgroundColor;
  at.fillRect(rect.x, rect.y, rect.width, rect.height);
  paint(at, root);
  return canvas;
}

function encoded(canvas: HTMLCanvasElement, type: 'image/png' | 'image/jpeg'): Promise<Blob> {
  return new Promise((told, failed) => canvas.toBlob((made) => (made ? told(made) : failed(new Error('the picture is too large'))), type, 0.92));
}

const pictureOf = (root: Element): Promise<Blob> => encoded(painted(root), 'image/png');

/** The picture as a PDF of one page of its size on the screen. */
async function pageOf(root: Element, title: string): Promise<Blob> {
  const canvas = painted(root);
  const rect = root.getBoundingClientRect();
  const jpeg = new Uint8Array(await (await encoded(canvas, 'image/jpeg')).arrayBuffer());
  return pdfOf({ jpeg, width: canvas.width, height: canvas.height }, { title, width: rect.width * POINTS_PER_PX, height: rect.height * POINTS_PER_PX });
}

/** Hands a part of the page over as a file of its title; nothing where it is not there yet. */
export async function handPicture(root: Element | undefined, title: string, kind: 'png' | 'pdf'): Promise<void> {
  if (root) hand(`${title}.${kind}`, await (kind === 'png' ? pictureOf(root) : pageOf(root, title)));
}
