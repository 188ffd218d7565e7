// What the widgets share: pictures with lines over them, curves with cursors, hands, and pages without a kernel.
// The library puts this text in place of a module's import, so that a widget is one text with nothing to load.

const DRAWN = ['svg', 'path', 'circle', 'g'];   // these are SVG, the others HTML

// An element with its attributes and what is in it.
export function make(tag, attributes = {}, ...inside) {
  const svg = DRAWN.includes(tag);
  const made = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

// Call `show` now, and whenever one of these names changes in the model.
export function follow(model, names, show) {
  for (const name of names) model.on(`change:${name}`, show);
  show();
}

// Change the model here, and behind it (in Python, where there is a kernel).
export function put(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

export const within = (value, low, high) => Math.min(high, Math.max(low, value));

// A picture with lines over it, in the picture's own pixels. `lines` names the paths, the last one on top.
export class Panel {
  constructor(el, label, lines = []) {
    this.image = make('img', {alt: label, draggable: 'false'});
    this.lines = lines.map(name => [name, make('path', {class: `em-${name}`})]);
    this.svg = make('svg', {}, ...this.lines.map(([, path]) => path));
    this.caption = make('figcaption');
    this.figure = make('figure', {}, this.image, this.svg, this.caption);
    el.append(this.figure);
  }

  show(panel) {
    this.figure.hidden = !panel.picture;
    if (!panel.picture) return;
    if (panel.picture !== this.picture) this.replace(panel.picture);
    const [height, width] = panel.shape;
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    for (const [name, path] of this.lines) path.setAttribute('d', panel[name] || '');
    this.caption.textContent = panel.caption || '';
  }

  // The kernel sends bytes, which get an address of their own; a page without a kernel holds them as text.
  replace(picture) {
    const before = this.image.src;
    this.picture = picture;
    this.image.src = typeof picture === 'string'
      ? `data:image/webp;base64,${picture}` : URL.createObjectURL(new Blob([picture]));
    if (before.startsWith('blob:')) URL.revokeObjectURL(before);   // else every step would leave a picture behind
  }

  // Show one kind of line, or not.
  line(name, on) {
    for (const [own, path] of this.lines) if (own === name) path.style.display = on ? '' : 'none';
  }

  clear() {
    if (this.image.src.startsWith('blob:')) URL.revokeObjectURL(this.image.src);
  }
}

// A curve that Python drew, with a cursor, and knobs that stand on it.
export class Curve {
  constructor(el, label) {
    this.box = make('div', {class: 'em-curve', tabindex: 0, role: 'slider', 'aria-label': label});
    el.append(this.box);
  }

  draw({svg, x, y}) {
    [this.x, this.y] = [x, y];
    this.box.innerHTML = svg;
    this.box.setAttribute('aria-valuemax', x.length - 1);
    this.box.setAttribute('aria-valuemin', 0);
  }

  // The frame under the hand.
  at(event) {
    const place = this.box.firstElementChild.getBoundingClientRect();
    const width = this.box.firstElementChild.viewBox.baseVal.width;
    const hand = (event.clientX - place.left) / place.width * width;
    return this.x.reduce((best, x, i) => Math.abs(x - hand) < Math.abs(this.x[best] - hand) ? i : best, 0);
  }

  cursor(i, words = '') {
    this.move('.now', 0, i);
    this.box.setAttribute('aria-valuenow', i);
    this.box.setAttribute('aria-valuetext', words || `frame ${i}`);
  }

  // Put knob `k` on point `i`; where the curve has a gap it keeps its height.
  knob(k, i) {
    this.move('.mark', k, i);
    const grip = this.box.querySelectorAll('.grip')[k];
    if (grip) grip.setAttribute('cx', this.x[i]);
    if (grip && this.y[i] !== null) grip.setAttribute('cy', this.y[i]);
  }

  move(kind, k, i) {
    const line = this.box.querySelectorAll(kind)[k];
    if (!line) return;
    line.setAttribute('x1', this.x[i]);
    line.setAttribute('x2', this.x[i]);
  }
}

// Mouse and finger: `start` says what is held (null: nothing), `move` follows the hand until it lets go.
// What has an element of its own (`held.el`) keeps the focus, so that the arrow keys go on where the hand stopped.
export function drag(el, start, move) {
  let held = null;
  el.addEventListener('pointerdown', event => {
    held = start(event);
    if (held === null) return;
    event.preventDefault();
    (held.el || el).setPointerCapture(event.pointerId);
    move(event, held);
  });
  el.addEventListener('pointermove', event => { if (held !== null) move(event, held); });
  for (const end of ['pointerup', 'pointercancel']) el.addEventListener(end, () => { held = null; });
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

// The arrow keys, while `el` has the focus.
export function arrows(el, step) {
  el.addEventListener('keydown', event => {
    const way = ARROWS[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    step(...way, event);
  });
}

// A notebook has shortcuts of its own on some keys. While a widget has the focus, these keys are the widget's.
export function keepKeys() {
  if (window.echomotionKeepsKeys) return;
  window.echomotionKeepsKeys = true;
  window.addEventListener('keydown', event => {
    if (!event.target.closest?.('.em-live') || !/^(Arrow|Home|End|Page)/.test(event.key)) return;
    event.target.setAttribute('data-lm-suppress-shortcuts', 'true');
    setTimeout(() => event.target.removeAttribute('data-lm-suppress-shortcuts'));
  }, true);
}

// A line of words that a screen reader reads when it changes.
export function say(model, el) {
  const words = make('output');
  el.append(words);
  follow(model, ['text'], () => { words.textContent = model.get('text'); });
}

// The rows of `table`, the first of them its head; column `strong` is the one that matters.
export function table(model, el, strong) {
  const box = make('table');
  el.append(box);
  follow(model, ['table'], () => {
    box.replaceChildren(...model.get('table').map((row, r) => make('tr', {}, ...row.map((words, c) =>
      make(r ? 'td' : 'th', c === strong ? {class: 'em-strong'} : {}, words)))));
  });
}

// --- A page without a kernel: controls of its own in place of ipywidgets, a table of answers in place of Python.

// What a widget's module needs of a model.
class Page {
  constructor(state) { [this.state, this.heard] = [state, {}]; }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.fire(`change:${name}`);
  }
  save_changes() {}
  on(name, listener) { (this.heard[name] ??= []).push(listener); }
  fire(name, ...said) { for (const listener of this.heard[name] ?? []) listener(...said); }
}

const CONTROLS = {
  range(model, {name, label, mark, ink, last, words}) {
    const input = make('input', {type: 'range', min: 0, max: last, 'aria-label': label});
    const sign = make('b', ink ? {style: `color:${ink}`} : {}, mark || '');
    const now = make('b', {class: 'em-value'});
    const said = make('span', {class: words ? 'em-word' : ''}, ...(mark ? [sign, ' '] : []), label, ' ', now);
    input.oninput = () => model.set(name, +input.value);
    follow(model, [name, 'text'], () => {
      input.value = model.get(name);
      if (words) now.textContent = words[model.get(name)];
      input.setAttribute('aria-valuetext', words ? now.textContent : model.get('text') || String(model.get(name)));
    });
    return [said, input];
  },
  play(model, {name, last, ms}) {
    const button = make('button', {type: 'button'});
    let timer = null;
    const look = () => {
      button.textContent = timer ? '\u23F8' : '\u25B6';
      button.setAttribute('aria-label', timer ? 'pause' : 'play');
    };
    const stop = () => { clearInterval(timer); timer = null; look(); };
    let own = false;   // a step of the player's own, not of a hand
    const step = () => {
      if (!button.isConnected) return stop();
      own = true;
      model.set(name, (model.get(name) + 1) % (last + 1));
      own = false;
    };
    button.onclick = () => {
      if (timer) return stop();
      timer = setInterval(step, ms);
      look();
    };
    model.on(`change:${name}`, () => { if (timer && !own) stop(); });
    look();
    return [button];
  },
  tick(model, {name, label}) {
    const input = make('input', {type: 'checkbox', 'data-of': name});
    input.checked = model.get(name);
    input.onchange = () => model.set(name, input.checked);
    return [make('label', {}, input, ` ${label}`)];
  },
  button(model, {label, press}) {
    const button = make('button', {type: 'button'}, label);
    button.onclick = () => model.fire('press', ...press);
    return [button];
  },
};

// Start a widget in each of these boxes: its own picture and hands, then the controls, a row each.
export function standAlone({render, alone}, boxes, page) {
  for (const box of boxes) {
    if (box.dataset.on) continue;
    box.dataset.on = 1;
    const model = new Page({...page.state});
    const view = box.querySelector('.em-view');
    view.replaceChildren();
    alone(model, page);
    render({model, el: view});
    const row = controls => make('div', {class: 'em-row'}, ...controls.flatMap(c => CONTROLS[c.kind](model, c)));
    view.after(make('div', {class: 'em-controls'}, ...page.controls.map(row)));
  }
}

// Answers that were recorded: for each place of the control `name`, what the model then holds.
export function recorded(model, name, answers) {
  follow(model, [name], () => {
    for (const [what, value] of Object.entries(answers[model.get(name)])) model.set(what, value);
  });
}
