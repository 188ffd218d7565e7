// The clip player: a picture with its outlines, and the curve with a cursor.
import {Curve, Panel, arrows, drag, follow, keepKeys, make, put, recorded, say, within} from './shared.mjs';

function render({model, el}) {
  el.classList.add('em-view');
  keepKeys();
  const pictures = make('div', {class: 'em-pics'});
  el.append(pictures);
  const panel = new Panel(pictures, 'echocardiogram, frame by frame', ['outline', 'truth']);
  const beside = new Panel(pictures, 'the same frame with the true outline', ['truth']);

  follow(model, ['panel', 'beside'], () => {
    panel.show(model.get('panel'));
    beside.show(model.get('beside') ? model.get('panel') : {});
  });
  follow(model, ['show_outline', 'show_truth', 'beside', 'opacity'], () => {
    panel.line('outline', model.get('show_outline'));
    panel.line('truth', model.get('show_truth') && !model.get('beside'));
    beside.line('truth', model.get('show_truth'));
    el.style.setProperty('--em-opacity', model.get('opacity'));
  });

  const go = t => put(model, 'frame', within(t, 0, model.get('last')));
  const step = right => go(model.get('frame') + right);
  panel.figure.tabIndex = 0;
  panel.figure.setAttribute('aria-label', 'clip: the arrow keys step');
  arrows(panel.figure, step);

  say(model, el);
  for (const drawn of model.get('curves')) {
    const curve = new Curve(el, 'curve: drag the cursor, or step with the arrow keys');
    curve.draw(drawn);
    follow(model, ['frame', 'text'], () => curve.cursor(model.get('frame'), model.get('text')));
    drag(curve.box, () => 'cursor', event => go(curve.at(event)));
    arrows(curve.box, step);
  }
  return () => [panel, beside].forEach(p => p.clear());
}

export function alone(model, page) { recorded(model, 'frame', page.answers); }

export default {render};
