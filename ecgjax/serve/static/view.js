// The picture on a canvas with the traces on it: zoom, pan, drawing. Places are picture px; the canvas shows them through one scale and shift.

import { placed } from './leads.js';

const MOST = 16; // canvas px per picture px
const MARGIN = 14; // px around a picture that fits, so that a point on its edge can be taken

const UNSURE_MV = 0.1;
const COLOUR = { sure: '#0050e6', unsure: '#e14600', drawn: '#00803c', band: 'rgba(0, 80, 230, .22)', lattice: 'rgba(0, 110, 60, .55)', pen: '#d000b0' };

export function view(canvas, moved) {
  const context = canvas.getContext('2d');
  let scale = 1, shift = [0, 0], shown = null, asked = false, fitted = true;
  const size = () => [canvas.clientWidth, canvas.clientHeight];
  const fitting = () => Math.min((size()[0] - 2 * MARGIN) / shown.picture.width, (size()[1] - 2 * MARGIN) / shown.picture.height);

  const paint = () => {
    asked = false;
    const ratio = devicePixelRatio, [width, height] = size();
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!shown) return;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * shift[0], ratio * shift[1]);
    context.imageSmoothingEnabled = scale < 4;
    context.drawImage(shown.picture.bitmap, 0, 0, shown.picture.width, shown.picture.height);
    if (shown.paths) {
      context.fillStyle = 'rgba(255, 255, 255, .3)';
      context.fillRect(0, 0, shown.picture.width, shown.picture.height);
      for (const path of Object.values(shown.paths)) band(path);
      for (const [lead, path] of Object.entries(shown.paths)) trace(path, lead === shown.lead);
    }
    if (shown.grid) lines(shown.grid);
    if (shown.pen) pen(shown.pen);
    moved();
  };

  const band = ({ low, high }) => {
    context.fillStyle = COLOUR.band;
    for (let i = 0; i < low.length;) {
      if (!low[i]) { i += 1; continue; }
      let stop = i;
      while (stop < low.length && low[stop]) stop += 1;
      context.beginPath();
      for (let k = i; k < stop; k += 1) context.lineTo(...low[k]);
      for (let k = stop - 1; k >= i; k -= 1) context.lineTo(...high[k]);
      context.fill();
      i = stop;
    }
  };

  const trace = ({ middle, kind }, chosen) => {
    context.lineWidth = (chosen ? 2.2 : 1.3) / scale;
    context.lineJoin = 'round';
    for (const colour of ['sure', 'unsure', 'drawn']) {
      context.strokeStyle = COLOUR[colour];
      context.beginPath();
      for (let i = 1; i < middle.length; i += 1) {
        if (!middle[i] || !middle[i - 1] || kind[i] !== colour) continue;
        context.moveTo(...middle[i - 1]);
        context.lineTo(...middle[i]);
      }
      context.stroke();
    }
  };

  const lines = (grid) => {
    context.strokeStyle = COLOUR.lattice;
    context.lineWidth = 1 / scale;
    context.beginPath();
    for (const line of grid) line.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  };

  const pen = (points) => {
    context.strokeStyle = COLOUR.pen;
    context.lineWidth = 2.5 / scale;
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
    const [x, y] = points.at(-1);
    context.beginPath();
    context.arc(x, y, 5 / scale, 0, 7);
    context.stroke();
  };

  const redraw = () => { if (!asked) { asked = true; requestAnimationFrame(paint); } };

  const self = {
    /** Shows a picture with paths; keeps the place if it is the same picture. */
    show(next) {
      const same = shown?.picture === next.picture;
      shown = next;
      if (same) redraw(); else self.fit();
    },
    redraw,
    clear() { shown = null; redraw(); },
    fit() {
      if (!shown) return;
      fitted = true;
      scale = fitting();
      shift = size().map((length, i) => (length - scale * [shown.picture.width, shown.picture.height][i]) / 2);
      redraw();
    },
    zoom(factor, [x, y] = size().map((length) => length / 2)) {
      if (!shown) return;
      fitted = false;
      const next = Math.min(MOST, Math.max(fitting() / 2, scale * factor));
      shift = [x - ((x - shift[0]) * next) / scale, y - ((y - shift[1]) * next) / scale];
      scale = next;
      redraw();
    },
    pan(dx, dy) {
      fitted = false;
      shift = [shift[0] + dx, shift[1] + dy];
      redraw();
    },
    toPicture: ([x, y]) => [(x - shift[0]) / scale, (y - shift[1]) / scale],
    toCanvas: ([x, y]) => [x * scale + shift[0], y * scale + shift[1]],
  };
  new ResizeObserver(() => (fitted ? self.fit() : redraw())).observe(canvas);
  return self;
}

/** Returns what the canvas draws of a lead: points of the trace and of the edges of its band of two deviations, null where absent. */
export function path(work, lead, map) {
  const { answer } = work, place = placed(answer, lead);
  const mv = answer.leads_mv[lead], std = answer.std_mv[lead];
  const at = (k) => mv.map((value, i) => (value === null ? null : map.toPicture(...place.page(i, value + k * (std[i] ?? 0)))));
  const kind = mv.map((_, i) => (work.drawn(lead, i) ? 'drawn' : std[i] > UNSURE_MV ? 'unsure' : 'sure'));
  return { middle: at(0), low: at(-2), high: at(2), kind };
}
