// What was read and what a person made of it: hidden and drawn stretches, undo and redo. Samples are mV, null where absent.

const HAND_MV = 0.05; // standard deviation of what is drawn by hand: half a small square

/** Wraps an answer of /api/digitize. */
export function edited(answer) {
  const undone = [], done = [];
  const edits = {}; // lead -> [{ from_s, to_s, how }]
  const copy = (lead) => ({ lead, mv: [...answer.leads_mv[lead]], std: [...answer.std_mv[lead]], edits: [...(edits[lead] ?? [])] });
  const restore = ({ lead, mv, std, edits: list }) => {
    answer.leads_mv[lead] = mv;
    answer.std_mv[lead] = std;
    edits[lead] = list;
    return lead;
  };
  const change = (lead, first, last, how, value) => {
    const [from, to] = [Math.max(0, Math.min(first, last)), Math.min(answer.leads_mv[lead].length - 1, Math.max(first, last))];
    if (!(to >= from)) return;
    done.push(copy(lead));
    undone.length = 0;
    for (let i = from; i <= to; i += 1) {
      answer.leads_mv[lead][i] = value(i);
      answer.std_mv[lead][i] = how === 'hidden' ? null : HAND_MV;
    }
    const at = (i) => Number((answer.start_s[lead] + i / answer.fs_hz).toFixed(4));
    edits[lead] = [...(edits[lead] ?? []), { from_s: at(from), to_s: at(to), how }];
  };
  return {
    answer,
    /** Samples first..last of a lead become absent. */
    hide: (lead, first, last) => change(lead, first, last, 'hidden', () => null),
    /** A lead goes through the points [[sample, mV], ...], straight between them; where the pen went twice, the last time counts. */
    draw(lead, points) {
      const drawn = new Map();
      points.forEach(([x, a], i) => {
        const [from, level] = points[Math.max(i - 1, 0)], step = Math.sign(x - from) || 1;
        for (let k = step > 0 ? Math.ceil(from) : Math.floor(from); step > 0 ? k <= x : k >= x; k += step) {
          drawn.set(k, x === from ? a : level + ((a - level) * (k - from)) / (x - from));
        }
      });
      if (drawn.size) change(lead, Math.min(...drawn.keys()), Math.max(...drawn.keys()), 'drawn', (i) => Number(drawn.get(i).toFixed(4)));
    },
    undo() { const last = done.pop(); if (!last) return null; undone.push(copy(last.lead)); return restore(last); },
    redo() { const last = undone.pop(); if (!last) return null; done.push(copy(last.lead)); return restore(last); },
    canUndo: () => done.length > 0,
    canRedo: () => undone.length > 0,
    drawn: (lead, i) => {
      const at = answer.start_s[lead] + i / answer.fs_hz;
      return (edits[lead] ?? []).some(({ from_s, to_s, how }) => how === 'drawn' && at >= from_s - 1e-3 && at <= to_s + 1e-3);
    },
    /** The answer as it is saved, with what was changed by hand. */
    facts: () => ({ ...answer, edits }),
  };
}

/** Returns sample -> [page x, page y] of a lead's own segment, and back, fractions included. */
export function placed(answer, lead) {
  const { page } = answer, segment = page.segments[page.read[lead]];
  const zero = page.zeros_px[segment.row];
  return {
    page: (sample, mv) => [page.start_x_px + (answer.start_s[lead] + sample / answer.fs_hz) * page.px_per_s, zero - segment.sign * mv * page.px_per_mv],
    sample: (x) => ((x - page.start_x_px) / page.px_per_s - answer.start_s[lead]) * answer.fs_hz,
    mv: (y) => (segment.sign * (zero - y)) / page.px_per_mv,
  };
}
