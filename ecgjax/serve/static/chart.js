// The twelve leads as a standard ECG, on paper of the page's own speed and gain.

const SVG = 'http://www.w3.org/2000/svg';
const HEADROOM_MV = 1.5; // at least, above the first and below the last zero line

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

/** Draws an answer's leads into a container, in place of what was there. */
export function drawChart(container, answer) {
  const { page } = answer;
  const places = page.segments.flatMap(({ lead, row, sign }) => {
    const shown = answer.leads_mv[lead].filter((mv) => mv !== null);
    return [HEADROOM_MV, -HEADROOM_MV, Math.max(...shown, 0) + 0.3, Math.min(...shown, 0) - 0.3].map((mv) => page.zeros_px[row] - sign * mv * page.px_per_mv);
  });
  const top = Math.min(...places), bottom = Math.max(...places);
  const words = `${answer.speed_mm_s} mm/s, ${answer.gain_mm_mv} mm/mV`;
  const svg = element('svg', { viewBox: `0 ${top} ${page.width_px} ${bottom - top}`, role: 'img', 'aria-label': `Twelve leads, ${words}` }, document.createDocumentFragment());
  for (const [pitch, kind] of [[page.mm_px, 'minor'], [5 * page.mm_px, 'major']]) {
    let lines = '';
    for (let x = 0; x <= page.width_px; x += pitch) lines += `M${x.toFixed(1)} ${top}V${bottom}`;
    for (let y = bottom; y >= top; y -= pitch) lines += `M0 ${y.toFixed(1)}H${page.width_px}`;
    element('path', { d: lines, class: `grid ${kind}` }, svg);
  }
  for (const segment of page.segments) {
    const start = answer.start_s[segment.lead], zero = page.zeros_px[segment.row];
    let path = '', down = false;
    answer.leads_mv[segment.lead].forEach((mv, i) => {
      const at = start + i / answer.fs_hz;
      if (mv === null || at < segment.start_s || at >= segment.stop_s) { down = false; return; }
      path += `${down ? 'L' : 'M'}${(page.start_x_px + at * page.px_per_s).toFixed(1)} ${(zero - segment.sign * mv * page.px_per_mv).toFixed(1)}`;
      down = true;
    });
    const x = page.start_x_px + segment.start_s * page.px_per_s;
    element('path', { d: path, class: 'trace', 'data-lead': segment.lead }, svg);
    element('text', { x: x + 8, y: zero - 0.9 * page.px_per_mv }, svg).textContent = `${segment.sign < 0 ? '-' : ''}${segment.lead}`;
  }
  element('text', { x: page.start_x_px, y: bottom - 12, class: 'small' }, svg).textContent = words;
  container.replaceChildren(svg);
}
