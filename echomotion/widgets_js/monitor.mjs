// The training monitor: two charts, and the validation frames of the epoch that is chosen.
import {Curve, Panel, follow, keepKeys, make, recorded, say} from './shared.mjs';

function render({model, el}) {
  el.classList.add('em-view');
  keepKeys();
  say(model, el);
  const charts = make('div', {class: 'em-curves'});
  el.append(charts);
  const curves = ['loss', 'Dice'].map(word => new Curve(charts, `${word} over the epochs`));
  for (const curve of curves) {   // to look at: the slider chooses
    curve.box.removeAttribute('tabindex');
    curve.box.setAttribute('role', 'group');
  }
  follow(model, ['curves', 'epoch'], () => {
    curves.forEach((curve, i) => {
      const drawn = model.get('curves')[i];
      if (drawn !== curve.drawn) curve.draw(drawn);
      curve.drawn = drawn;
      curve.cursor(Math.min(model.get('epoch'), drawn.x.length - 1), model.get('text'));
    });
  });
  const panel = new Panel(el, 'validation frames with outlines');
  follow(model, ['panel'], () => panel.show(model.get('panel')));
  return () => panel.clear();
}

export function alone(model, page) { recorded(model, 'epoch', page.answers); }

export default {render};
