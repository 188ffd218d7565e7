// The tracing exercise: nine points on the wall at ED and nine at ES, a smooth line through them, and what follows.
import {Panel, arrows, drag, follow, keepKeys, make, put, say, table, within} from './shared.mjs';

const PHASES = ['ED', 'ES'];
const REACH = 0.12;   // how far from a point, as a share of the picture's width, a hand still takes it

// --- the sums, as `smooth_outline`, `disk_volume` and `dice` do them in Python

// A Catmull-Rom spline through the points, as a polygon; the annulus closes it.
export function spline(points, steps = 8) {
  const line = [];
  for (let i = 0; i < points.length - 1; i++) {
    const a = points[Math.max(i - 1, 0)], b = points[i];
    const c = points[i + 1], d = points[Math.min(i + 2, points.length - 1)];
    for (let s = 0; s < steps; s++) {
      const t = s / steps;
      line.push([0, 1].map(k => (2 * b[k] + (c[k] - a[k]) * t + (2 * a[k] - 5 * b[k] + 4 * c[k] - d[k]) * t * t
        + (3 * b[k] - a[k] - 3 * c[k] + d[k]) * t * t * t) / 2));
    }
  }
  return [...line, points[points.length - 1]];
}

// Where the polygon crosses the line v = level; `place` gives a corner's (u, v).
function crossings(outline, place, level) {
  const found = [];
  outline.forEach((corner, i) => {
    const [u, v] = place(corner), [u2, v2] = place(outline[(i + 1) % outline.length]);
    if ((v <= level) !== (v2 <= level)) found.push(u + (level - v) / (v2 - v) * (u2 - u));
  });
  return found.sort((a, b) => a - b);
}

// Overlap with the true mask, whose pixels are bits, row by row.
export function dice(outline, {bits, pixels}, [height, width]) {
  let both = 0, own = 0;
  for (let y = 0; y < height; y++) {
    const edges = crossings(outline, corner => corner, y);
    for (let j = 0; j + 1 < edges.length; j += 2) {
      for (let x = Math.max(0, Math.ceil(edges[j])); x < Math.min(width, edges[j + 1]); x++) {
        const i = y * width + x;
        own += 1;
        both += bits[i >> 3] >> (7 - (i & 7)) & 1;
      }
    }
  }
  return 2 * both / (own + pixels || 1);
}

// Twenty disks across the long axis, from the apex to the middle of the annulus.
export function volume(points, [mmY, mmX], disks = 20) {
  const apex = [points[4][0] * mmX, points[4][1] * mmY];
  const base = [(points[0][0] + points[8][0]) / 2 * mmX, (points[0][1] + points[8][1]) / 2 * mmY];
  const length = Math.hypot(base[0] - apex[0], base[1] - apex[1]);
  const along = [(base[0] - apex[0]) / length, (base[1] - apex[1]) / length];
  const place = ([x, y]) => {   // across and along the axis, in mm
    const [dx, dy] = [x * mmX - apex[0], y * mmY - apex[1]];
    return [-dx * along[1] + dy * along[0], dx * along[0] + dy * along[1]];
  };
  const outline = spline(points);
  let sum = 0;
  for (let i = 0; i < disks; i++) {
    const edges = crossings(outline, place, (i + 0.5) * length / disks);
    let wide = 0;
    for (let j = 0; j + 1 < edges.length; j += 2) wide += edges[j + 1] - edges[j];
    sum += Math.PI / 4 * wide * wide * length / disks;
  }
  return sum;
}

// Every point moved outwards, across the line through its neighbours.
export function grown(points, px) {
  const n = points.length;
  const twice = points.reduce((sum, [x, y], i) => {
    const [x2, y2] = points[(i + 1) % n];
    return sum + x * y2 - x2 * y;
  }, 0);
  return points.map(([x, y], i) => {
    const before = points[(i + n - 1) % n], after = points[(i + 1) % n];
    const along = [after[0] - before[0], after[1] - before[1]];
    const k = px * (Math.sign(twice) || 1) / (Math.hypot(...along) || 1);
    return [x + k * along[1], y - k * along[0]];
  });
}

// --- what is seen and held

// Nine points over a panel, each of which takes the mouse, the finger and the arrow keys.
function hold(model, panel, phase) {
  const [height, width] = model.get('shape');
  const dots = model.get('points').map((word, i) => {
    const dot = make('g', {tabindex: 0, role: 'button', 'aria-label': `${phase}, ${word}`},
      make('circle', {r: height / 48}));
    dot.addEventListener('focus', () => put(model, 'chosen', [phase, i]));
    arrows(dot, (right, down, event) => {
      const step = event.shiftKey ? 2 : 0.5, [x, y] = model.get('tracings')[phase][i];
      place(i, x + step * right, y + step * down);
    });
    return dot;
  });
  panel.svg.append(...dots);

  const place = (i, x, y) => {
    const points = model.get('tracings')[phase].slice();
    points[i] = [within(x, 0, width - 1), within(y, 0, height - 1)];
    put(model, 'tracings', {...model.get('tracings'), [phase]: points});
  };
  const hand = event => {
    const box = panel.svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    return [x * width - 0.5, y * height - 0.5];
  };
  const start = event => {
    const [x, y] = hand(event), points = model.get('tracings')[phase];
    const far = points.map(p => Math.hypot(p[0] - x, p[1] - y)), i = far.indexOf(Math.min(...far));
    if (far[i] > REACH * width) return null;
    dots[i].focus({preventScroll: true});
    return {i, el: dots[i], dx: points[i][0] - x, dy: points[i][1] - y};
  };
  drag(panel.svg, start, (event, {i, dx, dy}) => {
    const [x, y] = hand(event);
    place(i, x + dx, y + dy);
  });

  follow(model, ['tracings', 'chosen'], () => {
    const points = model.get('tracings')[phase];
    const own = 'M' + spline(points).map(([x, y]) => `${(x + 0.5).toFixed(1)} ${(y + 0.5).toFixed(1)}`).join('L') + 'Z';
    panel.lines[0][1].setAttribute('d', own);
    dots.forEach((dot, i) => {
      dot.setAttribute('transform', `translate(${(points[i][0] + 0.5).toFixed(2)} ${(points[i][1] + 0.5).toFixed(2)})`);
      dot.classList.toggle('em-chosen', model.get('chosen')[0] === phase && model.get('chosen')[1] === i);
    });
  });
}

function render({model, el}) {
  el.classList.add('em-view');
  keepKeys();
  const pictures = make('div', {class: 'em-pics em-large'});
  el.append(pictures);
  const panels = PHASES.map(phase => {
    const name = `${phase.toLowerCase()}_panel`;
    const panel = new Panel(pictures, `echocardiogram, ${phase}`, ['own', 'truth']);
    panel.figure.classList.add('em-traced');
    panel.show(model.get(name));
    follow(model, ['show_truth'], () => panel.line('truth', model.get('show_truth')));
    hold(model, panel, phase);
    return panel;
  });
  table(model, el, 3);
  say(model, el);
  return () => panels.forEach(panel => panel.clear());
}

// --- without a kernel: the sums are done here

const words = v => Math.abs(v) >= 100 ? v.toFixed(0) : String(+v.toPrecision(3));
const percent = (ed, es) => `${((ed - es) / ed * 100).toFixed(1)}%`;

export function alone(model, page) {
  const size = points => volume(points, page.mm) / page.unit;
  const truth = Object.fromEntries(PHASES.map(phase =>
    [phase, {...page.truth[phase], bits: Uint8Array.from(atob(page.truth[phase].bits), c => c.charCodeAt(0))}]));
  const shape = model.get('shape');

  follow(model, ['tracings', 'show_truth'], () => {
    const {ED, ES} = model.get('tracings');
    const [ed, es] = [size(ED), size(ES)];
    const overlap = PHASES.map(phase => dice(spline(model.get('tracings')[phase]), truth[phase], shape).toFixed(2));
    const [head, own, scored] = page.state.table;
    model.set('table', [head, [own[0], words(ed), words(es), percent(ed, es)],
      ...(model.get('show_truth') ? [page.true_row] : []), [scored[0], ...overlap, '']]);
    const [smaller, larger] = [-1, 1].map(px => percent(ed, size(grown(ES, px))));
    model.set('text', `With ES drawn 1 pixel further in: EF ${smaller}; 1 pixel further out: ${larger}.`);
  });
  model.on('press', (phase, px) => {
    const now = model.get('tracings');
    model.set('tracings', phase ? {...now, [phase]: grown(now[phase], px)} : page.state.tracings);
  });
}

export default {render};
