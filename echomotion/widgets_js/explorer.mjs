// The EF explorer: ED, ES and the frame between them, on pictures and on curves with knobs to drag.
import {Curve, Panel, arrows, drag, follow, keepKeys, make, put, table, within} from './shared.mjs';

const REACH = 14;   // how far from a knob, in the curve's own units, a hand still takes it

function render({model, el}) {
  el.classList.add('em-view');
  keepKeys();
  const pictures = make('div', {class: 'em-pics'});
  el.append(pictures);
  const names = ['ed', 'frame', 'es'];
  const panels = names.map(name => new Panel(pictures, `echocardiogram, ${name}`, ['outline', 'disks']));
  panels.forEach((panel, i) => follow(model, [`${names[i]}_panel`], () => panel.show(model.get(`${names[i]}_panel`))));
  follow(model, ['show_disks'], () => panels.forEach(panel => panel.line('disks', model.get('show_disks'))));

  let held = 'frame';   // what the hand had last, and the arrow keys move
  const go = (name, t) => put(model, name, within(t, 0, model.get('last')));
  const step = name => right => go(name, model.get(name) + right);
  panels.forEach((panel, i) => {
    panel.figure.tabIndex = 0;
    panel.figure.setAttribute('aria-label', `${names[i]}: the arrow keys step`);
    arrows(panel.figure, step(names[i]));
  });

  table(model, el, 3);
  const curves = make('div', {class: 'em-curves'});
  el.append(curves);
  for (const drawn of model.get('curves')) {
    const curve = new Curve(curves, 'curve: drag ED, ES or the cursor; the arrow keys move what you dragged last');
    curve.draw(drawn);
    follow(model, names, () => {
      curve.cursor(model.get('frame'), names.map(name => `${name} ${model.get(name)}`).join(', '));
      curve.knob(0, model.get('ed'));
      curve.knob(1, model.get('es'));
    });
    const start = event => {
      const hand = curve.x[curve.at(event)];
      const far = name => Math.abs(curve.x[model.get(name)] - hand);
      const near = far('ed') <= far('es') ? 'ed' : 'es';
      held = far(near) <= REACH ? near : 'frame';
      return held;
    };
    drag(curve.box, start, event => go(held, curve.at(event)));
    arrows(curve.box, right => step(held)(right));
  }
  return () => panels.forEach(panel => panel.clear());
}

const percent = (large, small) =>
  large > 0 && small !== null ? `${((large - small) / large * 100).toFixed(1)}%` : 'nan%';

// Without a kernel: the frames that the page keeps, and EF from their volumes and areas.
export function alone(model, page) {
  for (const name of ['ed', 'frame', 'es']) {
    follow(model, [name], () => {
      const frame = page.frames[model.get(name)], word = name === 'frame' ? '' : `${name.toUpperCase()}, `;
      model.set(`${name}_panel`, {...frame, caption: word + frame.caption});
    });
  }
  follow(model, ['ed', 'es'], () => {
    const [ed, es] = [model.get('ed'), model.get('es')];
    const rows = page.curves.map(({word, words, values, measured}) =>
      [word, words[ed], words[es], percent(values[ed], values[es]), measured]);
    model.set('table', [page.state.table[0], ...rows]);
  });
}

export default {render};
