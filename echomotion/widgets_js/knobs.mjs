// The simulator's knobs: one frame with the true outline, the true volume over a beat, and what a tracing would say.
import {Curve, Panel, arrows, drag, follow, keepKeys, make, put, say, table} from './shared.mjs';

function render({model, el}) {
  el.classList.add('em-view');
  keepKeys();
  const panel = new Panel(el, 'simulated echocardiogram', ['outline']);
  follow(model, ['panel'], () => panel.show(model.get('panel')));
  follow(model, ['show_outline'], () => panel.line('outline', model.get('show_outline')));

  const curve = new Curve(el, 'volume over one beat: drag the cursor, or step with the arrow keys');
  const go = place => put(model, 'phase', (place + 20) % 20);
  follow(model, ['curves', 'phase'], () => {
    if (model.get('curves')[0] !== curve.drawn) curve.draw(model.get('curves')[0]);
    curve.drawn = model.get('curves')[0];
    curve.cursor(model.get('phase'), `${model.get('phase') * 5}% of the beat`);
  });
  if (model.get('beats')) {   // the page has one place in the beat, end-systole
    drag(curve.box, () => 'cursor', event => go(curve.at(event)));
    arrows(curve.box, right => go(model.get('phase') + right));
  }
  table(model, el);
  return () => panel.clear();
}

// Without a kernel: one knob is turned at a time, the others go back to where they stood.
export function alone(model, page) {
  const turn = (name, knob) => {
    for (const [other, {home}] of Object.entries(page.knobs)) if (other !== name) model.set(other, home);
    const state = knob.states[model.get(name)];
    for (const [what, value] of Object.entries(state)) model.set(what, value ?? page.state[what]);
  };
  let busy = false;
  for (const [name, knob] of Object.entries(page.knobs)) {
    model.on(`change:${name}`, () => {
      if (busy) return;
      busy = true;
      turn(name, knob);
      busy = false;
    });
  }
}

export default {render};
