// EF while scanning: the newest picture with its outline, what is known of it, and the curve of the last seconds.
import {Curve, Panel, follow, keepKeys, make, say} from './shared.mjs';

function render({model, el}) {
  el.classList.add('em-view');
  keepKeys();
  say(model, el);
  follow(model, ['state'], () => { el.dataset.state = model.get('state'); });
  const panel = new Panel(el, 'the newest picture of the stream, with the outline', ['outline']);
  follow(model, ['panel'], () => panel.show(model.get('panel')));
  const curves = make('div', {class: 'em-curves'});
  el.append(curves);
  const curve = new Curve(curves, 'the cavity over the last seconds');
  curve.box.removeAttribute('tabindex');   // to look at
  curve.box.setAttribute('role', 'group');
  follow(model, ['curves'], () => { if (model.get('curves').length) curve.draw(model.get('curves')[0]); });
  return () => panel.clear();
}

export function alone() {}   // without a kernel nothing comes any more

export default {render};
