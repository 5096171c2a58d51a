// The page: what is opened, what is read, what a person does with it.

import { digitize, layouts, picture, save } from './api.js';
import { drawChart } from './chart.js';
import { CORNERS, carried, cornersOf, handles, knots } from './handles.js';
import { mapped } from './lattice.js';
import { edited, placed } from './leads.js';
import { path, view } from './view.js';

const $ = (id) => document.getElementById(id);
const HINTS = {
  look: 'Drag to move, wheel or pinch to zoom. Keys: arrows, + and -, 0 to fit.',
  corners: "Drag the page's corners, then read again. Keys: arrows move a corner (shift: farther), page up and down go to the next.",
  lattice: 'Drag points until the green lines lie on the grid, then read again along them. Keys: arrows, shift, page up and down.',
  hide: 'Drag along a stretch of the chosen lead. Keys: left and right move the pen (shift: farther), space begins and ends a stretch.',
  draw: 'Draw over a stretch of the chosen lead. Keys: arrows move the pen (shift: farther), space puts it down and lifts it.',
};

let file = null, shown = null, work = null, map = null, paths = {}, mode = 'look', lead = 'II';
let corners = null, lattice = null, pen = null, down = null, reading = null;

const canvas = $('view');
const sight = view(canvas, () => points.place());
const points = handles($('handles'), sight, dragged);

function say(text, kind = '') {
  $('status').textContent = text;
  $('status').className = kind;
}

function show() {
  const grid = mode === 'lattice' || mode === 'corners' ? gridLines() : null;
  sight.show({ picture: shown, paths: work && !grid ? paths : null, lead, grid, pen: pen?.points });
}

function gridLines() {
  if (mode === 'corners') return corners ? [[...corners, corners[0]]] : null;
  return lattice ? [...lattice, ...lattice[0].map((_, j) => lattice.map((line) => line[j]))] : null;
}

// Opening and reading

async function open(chosen, page = 1) {
  if (!chosen || (work?.canUndo() && !confirm('What was corrected by hand is lost. Open another picture?'))) {
    if (shown) $('options').elements.page.value = shown.page;
    return;
  }
  shown?.bitmap.close();
  [file, shown, work, corners, lattice, pen] = [chosen, null, null, null, null, null];
  $('options').elements.page.value = page;
  $('desk').hidden = true;
  sight.clear();
  await busy(`Opening ${file.name}`, async (signal) => {
    shown = await picture(file, page, signal);
    const edge = 0.03 * Math.min(shown.width, shown.height);
    corners = [[edge, edge], [shown.width - edge, edge], [shown.width - edge, shown.height - edge], [edge, shown.height - edge]];
    $('pages').hidden = shown.pages < 2;
    $('options').elements.page.max = shown.pages;
    $('desk').hidden = false;
    setMode('look');
    verdict(null);
    await read({}, signal);
  });
}

function read(where, signal) {
  const { layout, speed, gain, fs } = Object.fromEntries(new FormData($('options')));
  say(`Reading ${file.name} ...`);
  const known = where.lattice ? gain || work.answer.gain_mm_mv : gain; // what the pulses gave holds along a lattice that was dragged
  return digitize(file, { layout, speed, gain: known, fs, page: shown.page, ...where }, signal).then((answer) => {
    work = edited(answer);
    lattice = answer.lattice_px;
    corners = cornersOf(lattice);
    map = mapped(lattice, answer.page.node_rows_px, answer.page.node_columns_px);
    paths = Object.fromEntries(Object.keys(answer.leads_mv).map((name) => [name, path(work, name, map)]));
    verdict(answer);
    drawChart($('chart'), answer);
    setMode('look');
    say(`${file.name}: ${answer.status}`, answer.status);
  });
}

async function reread(where) {
  if (!shown || (work?.canUndo() && !confirm('What was corrected by hand is lost. Read the page again?'))) return;
  await busy('', (signal) => read(where, signal));
}

async function busy(text, task) {
  reading?.abort();
  const own = (reading = new AbortController()), start = performance.now(), held = document.activeElement;
  if (text) say(text);
  $('cancel').hidden = false;
  $('frame').inert = true; // what was corrected meanwhile would be lost to the answer
  document.body.classList.add('busy');
  const clock = setInterval(() => { $('cancel').textContent = `Stop reading (${Math.round((performance.now() - start) / 1000)} s)`; }, 500);
  try {
    await task(own.signal);
  } catch (error) {
    if (reading === own) {
      say(error.name === 'AbortError' ? 'Stopped.' : error.message, 'fail');
      if (!work && shown) {
        verdict({ status: 'fail', warnings: [error.name === 'AbortError' ? 'it was stopped' : error.message], quality: {} });
        setMode('corners');
      }
    }
  } finally {
    clearInterval(clock);
    if (reading === own) {
      const lost = document.activeElement === $('cancel') || document.activeElement === document.body;
      $('cancel').hidden = true;
      $('frame').inert = false;
      document.body.classList.remove('busy');
      if (lost) (held.checkVisibility() && held !== $('cancel') && held !== document.body ? held : canvas).focus();
    }
  }
}

function verdict(answer) {
  const told = { ok: 'ok', review: 'Look it over', fail: 'Not read' };
  $('word').textContent = answer ? told[answer.status] : 'Being read';
  $('word').className = answer?.status ?? '';
  $('warnings').replaceChildren(...(answer?.warnings ?? []).map((text) => Object.assign(document.createElement('li'), { textContent: text })));
  const names = Object.keys(answer?.quality ?? {});
  $('leads').replaceChildren($('leads').firstElementChild, ...names.map((name) => leadRow(name, answer.quality[name])));
  $('save').hidden = !answer?.leads_mv;
  if (!answer?.leads_mv) $('chart').replaceChildren();
  buttons();
}

function leadRow(name, quality) {
  const row = document.createElement('label'), radio = document.createElement('input'), meter = document.createElement('meter');
  Object.assign(radio, { type: 'radio', name: 'lead', value: name, checked: name === lead });
  Object.assign(meter, { min: 0, max: 1, low: 0.5, high: 0.9, optimum: 1, value: quality });
  meter.setAttribute('aria-label', `quality of ${name}`);
  row.append(radio, ` ${name} `, meter, ` ${quality.toFixed(2)}`);
  return row;
}

function buttons() {
  $('undo').disabled = !work?.canUndo();
  $('redo').disabled = !work?.canRedo();
  if (document.activeElement === $('reread')) canvas.focus();
  const what = { corners: 'Read again within the corners', lattice: 'Read again along the lattice' }[mode];
  $('reread').hidden = !what || !shown || !{ corners, lattice }[mode];
  $('reread').textContent = what ?? '';
}

// Correcting

function setMode(next) {
  mode = next;
  document.querySelector(`[name=mode][value=${mode}]`).checked = true;
  $('hint').textContent = HINTS[mode];
  $('frame').dataset.mode = mode;
  [pen, down] = [null, null];
  if (mode === 'corners' && corners) points.show(corners, CORNERS);
  else if (mode === 'lattice' && lattice) points.show(knots(lattice).map(([i, j]) => lattice[i][j]), knots(lattice).map(([i, j]) => `Lattice row ${i}, column ${j}`));
  else points.clear();
  buttons();
  if (editing()) rest();
  else if (shown) show();
}

function dragged(i, to) {
  if (mode === 'corners') corners[i] = to;
  else lattice = carried(lattice, knots(lattice)[i], to);
  show();
}

function nearest(at) { // (sample, mV) of the chosen lead at a place of the picture; null beside the lead
  const place = placed(work.answer, lead), [x, y] = map.toPage(...at), sample = place.sample(x);
  return sample < 0 || sample > work.answer.leads_mv[lead].length - 1 ? null : [sample, place.mv(y)];
}

function put(sample, mv = null, points = []) { // the pen, at a sample of the chosen lead; on its trace where no mV is given
  const height = mv ?? work.answer.leads_mv[lead][Math.round(sample)] ?? 0;
  const at = map.toPicture(...placed(work.answer, lead).page(sample, height));
  pen = { sample, mv: height, line: [...(pen?.line ?? []), [sample, height]], points: [...points, at] };
}

const editing = () => work && (mode === 'hide' || mode === 'draw');

function rest(sample = work.answer.leads_mv[lead].length / 2) { // the pen lies there, where the keys may take it up
  pen = null;
  put(Math.round(sample));
  pen.line = [];
  show();
}

function finish() {
  const { line } = pen, samples = new Set(line.map(([sample]) => Math.round(sample)));
  if (samples.size > 1) { // a click is no stretch
    if (mode === 'hide') work.hide(lead, Math.round(line[0][0]), Math.round(line.at(-1)[0]));
    else work.draw(lead, line);
  }
  rest(line.at(-1)[0]);
  changed(lead);
}

function changed(name) {
  paths[name] = path(work, name, map);
  drawChart($('chart'), work.answer);
  buttons();
  show();
}

function step(undo) {
  const name = undo ? work?.undo() : work?.redo();
  if (name) changed(name);
}

// The pointer and the keys

const touches = new Map();

function spot(event) {
  const { left, top } = canvas.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}

canvas.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, spot(event));
  if (touches.size > 1) {
    down = pen = null;
    show();
    return;
  }
  down = spot(event);
  if (editing()) {
    pen = null;
    follow(event);
  }
});

function follow(event) { // hiding follows the trace, drawing the pointer; beside the chosen lead nothing is drawn
  const at = nearest(sight.toPicture(spot(event)));
  if (at) put(...(mode === 'hide' ? [Math.round(at[0]), null] : at), pen?.points);
  show();
}

canvas.addEventListener('pointermove', (event) => {
  if (!touches.has(event.pointerId)) return;
  const before = touches.get(event.pointerId), at = spot(event);
  touches.set(event.pointerId, at);
  if (touches.size === 2) {
    const [other] = [...touches].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const far = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    sight.zoom(far(at) / Math.max(far(before), 1), other);
  } else if (down && editing()) follow(event);
  else if (down) sight.pan(at[0] - before[0], at[1] - before[1]);
});

for (const kind of ['pointerup', 'pointercancel']) {
  canvas.addEventListener(kind, (event) => {
    touches.delete(event.pointerId);
    if (down && editing()) {
      if (pen && kind === 'pointerup') finish();
      else rest();
    }
    down = null;
  });
}

canvas.addEventListener('wheel', (event) => {
  event.preventDefault();
  sight.zoom(2 ** (-event.deltaY / 400), spot(event));
}, { passive: false });

canvas.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const far = event.shiftKey ? 10 : 1;
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (['+', '='].includes(event.key)) sight.zoom(1.25);
  else if (event.key === '-') sight.zoom(0.8);
  else if (event.key === '0') sight.fit();
  else if (way && pen) movePen(way, far);
  else if (way) sight.pan(-40 * far * way[0], 40 * far * way[1]);
  else if (event.key === ' ' && pen) {
    if (down === 'keys') { down = null; finish(); } else {
      const { sample, mv } = pen;
      [down, pen] = ['keys', null];
      put(sample, mv);
    }
    show();
  } else return;
  event.preventDefault();
});

function movePen([x, y], far) {
  const last = work.answer.leads_mv[lead].length - 1, sample = Math.min(Math.max(pen.sample + x * far, 0), last);
  const mv = mode === 'hide' || (down !== 'keys' && x) ? null : pen.mv + 0.01 * far * y;
  if (down !== 'keys') pen.line = [];
  put(sample, mv, down === 'keys' ? pen.points : []);
  show();
}

document.addEventListener('keydown', (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== 'z' || event.target.matches('input[type=number]')) return;
  step(!event.shiftKey);
  event.preventDefault();
});

// The rest of the page

$('file').addEventListener('change', () => { open($('file').files[0]); $('file').value = ''; });
$('cancel').addEventListener('click', () => reading?.abort());
$('closer').addEventListener('click', () => sight.zoom(1.25));
$('farther').addEventListener('click', () => sight.zoom(0.8));
$('fit').addEventListener('click', () => sight.fit());
$('undo').addEventListener('click', () => step(true));
$('redo').addEventListener('click', () => step(false));
$('reread').addEventListener('click', () => reread(mode === 'corners' ? { corners } : { lattice }));
$('modes').addEventListener('change', (event) => setMode(event.target.value));
$('leads').addEventListener('change', (event) => { lead = event.target.value; setMode(mode); });
$('options').addEventListener('submit', (event) => {
  event.preventDefault();
  if (Number(event.target.elements.page.value) === shown?.page) reread({}); // else the change of the page has opened it
});
$('options').elements.page.addEventListener('change', (event) => open(file, event.target.value));
$('theme').addEventListener('change', (event) => { document.documentElement.style.colorScheme = event.target.value; });

document.addEventListener('dragover', (event) => { event.preventDefault(); $('drop').classList.add('over'); });
document.addEventListener('dragleave', () => $('drop').classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  $('drop').classList.remove('over');
  open(event.dataTransfer.files[0]);
});

$('save').addEventListener('click', async (event) => {
  const format = event.target.value;
  if (!format || !work) return;
  const name = file.name.replace(/\.[^.]*$/, '') + (shown.pages > 1 ? `-p${String(work.answer.picture.page).padStart(3, '0')}` : '');
  try {
    const { leads_mv, start_s, seconds, fs_hz } = work.answer;
    const made = format === 'json'
      ? { name: `${name}.json`, blob: new Blob([JSON.stringify(work.facts(), null, 1)], { type: 'application/json' }) }
      : await save({ leads_mv, start_s, seconds, fs_hz }, format, name);
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(made.blob), download: made.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(`${made.name} is saved.`);
  } catch (error) {
    say(error.message, 'fail');
  }
});

setMode('look');
layouts().then((names) => {
  $('options').elements.layout.append(...names.map((name) => Object.assign(document.createElement('option'), { textContent: name })));
}).catch((error) => say(error.message, 'fail'));
