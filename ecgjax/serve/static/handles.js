// Points that a person drags, or moves by the arrow keys: the page's corners, and a few of its lattice's nodes that carry the others along.

const EDGE_PX = 20; // of the screen, by which a point that has the focus stays inside
const STEP_PX = 2; // picture px of an arrow key; 10 times that with shift

/** Shows points as buttons over the canvas; `changed(index, [x, y])` is told of each move. Returns { show, place, clear }. */
export function handles(box, view, changed) {
  let points = [], buttons = [], pointed = false;

  const place = () => buttons.forEach((button, i) => {
    const [x, y] = view.toCanvas(points[i]);
    button.style.translate = `${x}px ${y}px`;
    // kept where it has the focus, or is the one that the tab key comes to: it would be lost to the keys
    button.hidden = button.tabIndex < 0 && (x < 0 || y < 0 || x > box.clientWidth || y > box.clientHeight);
  });
  const move = (i, to) => { points[i] = to; place(); changed(i, to); };
  const reach = (i) => {
    const [x, y] = view.toCanvas(points[i]), far = (at, length) => Math.min(Math.max(at, EDGE_PX), length - EDGE_PX) - at;
    const [dx, dy] = [far(x, box.clientWidth), far(y, box.clientHeight)];
    if (dx || dy) view.pan(dx, dy);
  };

  const made = (i, name) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'handle';
    button.setAttribute('aria-label', name);
    button.tabIndex = i ? -1 : 0; // one stop for the tab key; page up and down go from point to point
    button.addEventListener('focus', () => {
      buttons.forEach((other) => { other.tabIndex = other === button ? 0 : -1; });
      if (!pointed) reach(i); // to move the picture under a pointer that holds a point would move the point
    });
    button.addEventListener('pointerdown', (event) => {
      if (event.button) return;
      button.setPointerCapture(event.pointerId);
      pointed = true;
      button.focus();
      pointed = false;
      event.preventDefault();
    });
    button.addEventListener('pointermove', (event) => {
      if (!button.hasPointerCapture(event.pointerId)) return;
      const { left, top } = box.getBoundingClientRect();
      move(i, view.toPicture([event.clientX - left, event.clientY - top]));
    });
    button.addEventListener('keydown', (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const turn = { PageDown: 1, PageUp: -1 }[event.key];
      if (way) move(i, points[i].map((at, k) => at + way[k] * STEP_PX * (event.shiftKey ? 10 : 1)));
      if (way) reach(i);
      if (turn) {
        const next = buttons[(i + turn + buttons.length) % buttons.length];
        next.hidden = false;
        next.focus();
      }
      if (way || turn) event.preventDefault();
    });
    return button;
  };

  return {
    show(next, names) {
      points = next.map((point) => [...point]);
      buttons = names.map((name, i) => made(i, name));
      box.replaceChildren(...buttons);
      place();
    },
    place,
    clear() { points = []; buttons = []; box.replaceChildren(); },
  };
}

export const CORNERS = ['Upper left corner', 'Upper right corner', 'Lower right corner', 'Lower left corner'];

/** Returns the four corners of a lattice. */
export const cornersOf = (lattice) => [lattice[0][0], lattice[0].at(-1), lattice.at(-1).at(-1), lattice.at(-1)[0]];

const PARTS = 4; // handles stand on every fourth part of the lattice's rows and columns

/** Returns [[row, column], ...] of the nodes that have a handle. */
export function knots(lattice) {
  const parts = (count) => Array.from({ length: PARTS + 1 }, (_, i) => Math.round((i * (count - 1)) / PARTS));
  return parts(lattice.length).flatMap((row) => parts(lattice[0].length).map((column) => [row, column]));
}

/** Returns the lattice with one node moved and those up to the next handles carried along, ever less. */
export function carried(lattice, [row, column], [x, y]) {
  const dx = x - lattice[row][column][0], dy = y - lattice[row][column][1];
  const near = (i, at, count) => Math.max(0, 1 - (Math.abs(i - at) * PARTS) / (count - 1));
  return lattice.map((line, i) => line.map(([a, b], j) => {
    const share = near(i, row, lattice.length) * near(j, column, line.length);
    return [a + share * dx, b + share * dy];
  }));
}
