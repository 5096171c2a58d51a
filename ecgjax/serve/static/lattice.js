// Page px to picture px and back, by the same spline as the server's (`geometry.image_px`), so that a trace is drawn where it was read.

// The slopes that numpy.gradient takes on uneven knots, as weights of the knots before, at and after one.
function slope(knots, i) {
  if (i === 0) return [0, -1 / (knots[1] - knots[0]), 1 / (knots[1] - knots[0])];
  if (i === knots.length - 1) return [-1 / (knots[i] - knots[i - 1]), 1 / (knots[i] - knots[i - 1]), 0];
  const before = knots[i] - knots[i - 1], after = knots[i + 1] - knots[i];
  return [-after / (before * (before + after)), (after - before) / (before * after), before / (after * (before + after))];
}

/** Returns [[knot, weight], ...] of a piecewise cubic with three-point slopes; beyond the ends it goes on with the last piece. */
export function weights(knots, at) {
  let left = 0;
  while (left < knots.length - 2 && knots[left + 1] <= at) left += 1;
  const step = knots[left + 1] - knots[left], u = (at - knots[left]) / step;
  const found = [0, (1 + 2 * u) * (1 - u) ** 2, u ** 2 * (3 - 2 * u), 0]; // of knots left - 1 ... left + 2
  const slopes = [[0, u * (1 - u) ** 2 * step], [1, u ** 2 * (u - 1) * step]];
  for (const [side, weight] of slopes) slope(knots, left + side).forEach((w, i) => { found[side + i] += weight * w; });
  return found.map((weight, i) => [left - 1 + i, weight]).filter(([knot]) => knot >= 0 && knot < knots.length);
}

/** A lattice (rows x columns x [x, y] picture px) at its nodes' page px -> { toPicture, toPage }, each from (x, y) to [x, y]. */
export function mapped(lattice, rows, columns) {
  const toPicture = (x, y) => {
    let a = 0, b = 0;
    const across = weights(columns, x);
    for (const [row, down] of weights(rows, y)) {
      for (const [column, weight] of across) {
        a += down * weight * lattice[row][column][0];
        b += down * weight * lattice[row][column][1];
      }
    }
    return [a, b];
  };
  const toPage = (a, b) => {
    let near = [0, 0], best = Infinity;
    lattice.forEach((line, i) => line.forEach(([x, y], j) => {
      const far = (x - a) ** 2 + (y - b) ** 2;
      if (far < best) [best, near] = [far, [columns[j], rows[i]]];
    }));
    let [x, y] = near;
    for (let i = 0; i < 12; i += 1) { // Newton's steps: a lattice bends little within a square
      const [p, q] = toPicture(x, y), [px, qx] = toPicture(x + 1, y), [py, qy] = toPicture(x, y + 1);
      const xx = px - p, xy = py - p, yx = qx - q, yy = qy - q, turn = xx * yy - xy * yx;
      if (!turn) break;
      x += ((a - p) * yy - (b - q) * xy) / turn;
      y += ((b - q) * xx - (a - p) * yx) / turn;
    }
    return [x, y];
  };
  return { toPicture, toPage };
}
