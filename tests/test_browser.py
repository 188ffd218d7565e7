"""Widgets in a real JupyterLab and in the classic notebook, and their twins on a page without a kernel, driven by a headless Chromium.

Chromium comes from the system: `bash scripts/chromium.sh` installs it. Where it is missing, one line says so; in CI that is a failure."""
import ast
import html
import json
import os
import re
import shutil

import numpy as np
import pytest
from browser import chromium, crowded, jupyter_lab, listening, missing, ran
from exports import ROOT, notebooks, read_notebook

LACKS = missing()
if LACKS and not os.environ.get('CI'): pytest.skip(f'browser tests: {LACKS}', allow_module_level=True)

BYTES = """async css => {const r = await fetch(document.querySelector(css).src), b = new Uint8Array(await r.arrayBuffer());
  return b.length + ':' + b.reduce((a, v) => (a * 31 + v) % 1000003, 7)}"""


@pytest.fixture(scope='module')
def browser():
    if LACKS: pytest.fail(f'browser tests: {LACKS}')
    with chromium() as b: yield b


def cells_for(cells, wanted):
    "The code cells that match `wanted`, with those before them that import, export or bind a name that these use"
    kept, used = [], set()
    for c in cells[::-1]:
        source = ''.join(c['source'])
        if c['cell_type'] != 'code' or not kept and not re.search(wanted, source, re.M): continue
        tree = ast.parse(source)
        names = lambda kind: {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, kind)}
        binds = names(ast.Store) | {n.name for n in tree.body if hasattr(n, 'name')}
        if re.search(rf'{wanted}|^#\| export|^(import|from) ', source, re.M) or binds & used:
            kept.append(c)
            used |= names(ast.Load)
    return kept[::-1]


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    folder, home = tmp_path_factory.mktemp('notebooks'), tmp_path_factory.mktemp('home')
    shutil.copy(ROOT/'nbs'/'06_widgets.ipynb', folder)
    lesson = json.loads((ROOT/'nbs'/'03_ef.ipynb').read_text(encoding='utf-8'))
    (folder/'03_ef.ipynb').write_text(json.dumps({**lesson, 'cells': cells_for(lesson['cells'], r'^explorer = |^player = ')}))
    shutil.copytree(ROOT/'nbs'/'images', folder/'images')
    with jupyter_lab(folder, home) as server: yield server


@pytest.fixture(scope='module')
def course(browser, lab): return ran(browser, lab, '06_widgets')


def differs(page, read, before, what, settle=True):
    "What `read()` gives once it is no longer `before`, and (`settle`) has stayed the same for a while, so that what is still on its way does not count for the next step"
    for _ in range(100):
        now = read()
        if now != before: break
        page.wait_for_timeout(100)
    else: pytest.fail(f'{what}: nothing changed within 10 s: {before!r}')
    same = 0
    while settle and same < 4:
        page.wait_for_timeout(100)
        last, now = now, read()
        same = same + 1 if now == last else 0
    return now


def watch(page, box, picture='img', text='output, table'):
    "Functions that read the bytes of a widget's picture and what it says"
    page.locator(box).first.scroll_into_view_if_needed()
    return lambda: page.evaluate(BYTES, f'{box} {picture}'), lambda: ' | '.join(page.locator(f'{box} :is({text})').all_inner_texts())


def test_clip_player_by_keyboard_mouse_and_buttons(course):
    page, _ = course
    picture, says = watch(page, '.em-player')
    was, said = picture(), says()
    page.locator('.em-player .noUi-handle').first.focus()
    for _ in range(3): page.keyboard.press('ArrowRight')
    was, said = differs(page, picture, was, 'the slider by key'), differs(page, says, said, 'the slider by key')
    page.locator('.em-player figure').first.focus()
    page.keyboard.press('ArrowRight')
    was = differs(page, picture, was, 'an arrow key on the picture')
    curve = page.locator('.em-player .em-curve svg').first.bounding_box()
    page.mouse.click(curve['x'] + .7 * curve['width'], curve['y'] + 50)
    was = differs(page, picture, was, 'a click on the curve')
    page.locator('.em-player button[title="one frame back"]').first.focus()
    page.keyboard.press('Enter')
    was = differs(page, picture, was, 'the step button by key')
    outline = page.locator('.em-player .em-outline').first
    assert outline.is_visible()
    page.locator('.em-player button:has-text("outline")').first.click()
    differs(page, outline.is_visible, True, 'the outline switch')
    page.locator('.em-player button:has-text("outline")').first.click()
    page.locator('.em-player .widget-play button').first.click()
    frames = {differs(page, picture, was, 'play', settle=False)}
    for _ in range(100):   # a busy machine takes its time
        frames.add(picture()); page.wait_for_timeout(100)
        if len(frames) > 3: break
    page.locator('.em-player .widget-play button').first.click()
    assert len(frames) > 3, 'play steps through the clip'


def test_ed_and_es_are_dragged_on_the_curve(course):
    page, _ = course
    picture, says = watch(page, '.em-explorer')
    was, said = picture(), says()
    knob = page.locator('.em-explorer .grip').first.bounding_box()
    x, y = knob['x'] + knob['width'] / 2, knob['y'] + knob['height'] / 2
    page.mouse.move(x, y); page.mouse.down(); page.mouse.move(x + 40, y, steps=6); page.mouse.up()
    was, said = differs(page, picture, was, "a drag of ED's knob"), differs(page, says, said, "a drag of ED's knob")
    page.locator('.em-explorer .noUi-handle').nth(2).focus()
    page.keyboard.press('ArrowRight')
    said = differs(page, says, said, 'the ES slider by key')
    disks = page.locator('.em-explorer .em-disks').first
    assert disks.is_visible() and disks.get_attribute('d').count('M') == 20
    page.locator('.em-explorer button:has-text("disks")').click()
    differs(page, disks.is_visible, True, 'the disks switch')
    assert re.search(r'volume.*%.*area.*%', said, re.S), 'volume EF and area EF are named'


def test_a_ventricle_is_traced_by_hand(course):
    page, _ = course
    _, says = watch(page, '.em-tracing')
    line = lambda: page.locator('.em-tracing .em-own').first.get_attribute('d')
    was, said = line(), says()
    page.locator('.em-tracing button:has-text("1 pixel out")').click()
    was, said = differs(page, line, was, '1 pixel out'), differs(page, says, said, '1 pixel out')
    x, y = (float(v) for v in page.locator('.em-tracing .widget-readout').all_inner_texts()[:2])   # the apex of ED, in pixels
    box = page.locator('.em-tracing img').first.bounding_box()
    px = box['height'] / 112
    at = box['x'] + (x + .5) * px, box['y'] + (y + .5) * px
    page.mouse.move(*at); page.mouse.down(); page.mouse.move(at[0], at[1] - 6 * px, steps=8); page.mouse.up()
    said = differs(page, says, said, 'a drag of the apex')
    page.wait_for_timeout(500)
    moved = float(page.locator('.em-tracing .widget-readout').all_inner_texts()[1])
    assert abs(moved - (y - 6)) <= 1, f'the apex was dragged by 6 pixels, from {y}; it stands at {moved}'
    page.keyboard.press('ArrowDown')   # the point has the focus
    said = differs(page, says, said, 'an arrow key on a point')
    page.locator('.em-tracing g[aria-label="ES, left wall, middle"]').focus()
    page.wait_for_function("document.querySelectorAll('.em-tracing select')[0].selectedOptions[0].text.replace(/\\u00a0/g, ' ') === 'left wall, middle'")
    page.locator('.em-tracing button:has-text("truth")').click()
    assert 'truth' in differs(page, says, said, 'the truth') and page.locator('.em-tracing .em-truth').first.is_visible()
    page.locator('.em-tracing button:has-text("start again")').click()
    differs(page, line, was, 'start again')


def test_training_monitor_goes_back_through_the_epochs(course):
    page, _ = course
    picture, says = watch(page, '.em-monitor')
    was, said = picture(), says()
    page.locator('.em-monitor .noUi-handle').first.focus()
    page.keyboard.press('Home')
    differs(page, picture, was, 'the first epoch'), differs(page, says, said, 'the first epoch')
    assert page.locator('.em-monitor .em-curve svg').count() == 2, 'loss and Dice'


def test_every_knob_of_the_phantom(course):
    page, _ = course
    picture, says = watch(page, '.em-knobs', text='table, .em-curve')
    page.locator('.em-knobs button:has-text("reset")').click()
    page.wait_for_timeout(500)
    handles = page.locator('.em-knobs .noUi-handle')
    assert handles.count() == 9
    for i in range(9):
        was, said = picture(), says()
        handles.nth(i).focus()
        for _ in range(3): page.keyboard.press('ArrowRight')
        was = differs(page, says, said, f'knob {i}') if i == 2 else differs(page, picture, was, f'knob {i}')   # heart rate at end-diastole shows in the curve alone


@pytest.mark.parametrize('box', ['.em-player', '.em-explorer', '.em-tracing', '.em-knobs'])
def test_from_key_to_picture(course, box):
    "Time from a key on the slider to the new picture on the screen: page, server, kernel and back. It is to look immediate (100 ms, printed); what fails is three times that, as machines differ by two. The least of a few medians, and more time where other work takes the cores"
    page, _ = course
    limit = 300 * crowded()
    page.locator(box).first.scroll_into_view_if_needed()
    medians = []
    for _ in range(6):
        times = page.evaluate("""async box => {const root = document.querySelector(box), handle = root.querySelector('.noUi-handle'), times = [];
          for (let i = 0; i < 12; i++) {const start = performance.now();
            await Promise.race([new Promise(r => setTimeout(r, 3000)), new Promise(done => {
              const seen = new MutationObserver(() => {seen.disconnect(); done()});
              root.querySelectorAll('img, .em-own').forEach(e => seen.observe(e, {attributes: true, attributeFilter: ['src', 'd']}));
              handle.dispatchEvent(new KeyboardEvent('keydown', {key: i % 2 ? 'ArrowLeft' : 'ArrowRight', bubbles: true, cancelable: true}))})]);
            times.push(performance.now() - start); await new Promise(r => setTimeout(r, 30))}
          return times}""", box)
        medians.append(float(np.median(times)))
        if medians[-1] < limit: break
        limit = max(limit, 300 * crowded())
    print(f'{box[4:]}: {min(medians):.0f} ms from key to picture (allowed: {limit:.0f})')
    assert min(medians) < limit, f'{box}: medians of {[round(m) for m in medians]} ms, allowed are {limit:.0f}'


def test_pictures_that_were_shown_are_let_go(course):
    "The page holds one picture a panel, however many steps are taken"
    page, _ = course
    made = page.evaluate("""async () => {const made = new Set(), create = URL.createObjectURL, revoke = URL.revokeObjectURL;
      URL.createObjectURL = b => {const url = create.call(URL, b); made.add(url); return url};
      URL.revokeObjectURL = url => {made.delete(url); revoke.call(URL, url)};
      const handle = document.querySelector('.em-player .noUi-handle'); let steps = 0;
      const seen = new MutationObserver(() => steps++);
      seen.observe(document.querySelector('.em-player img'), {attributes: true, attributeFilter: ['src']});
      for (let i = 0; i < 100; i++) {
        handle.dispatchEvent(new KeyboardEvent('keydown', {key: i % 2 ? 'ArrowLeft' : 'ArrowRight', bubbles: true, cancelable: true}));
        await new Promise(r => setTimeout(r, 40))}
      await new Promise(r => setTimeout(r, 500));
      seen.disconnect(); Object.assign(URL, {createObjectURL: create, revokeObjectURL: revoke});
      return [steps, made.size]}""")
    assert made[0] > 20 and made[1] <= 2, f'after {made[0]} pictures {made[1]} are still held'


def test_arrow_keys_stay_with_the_widget(course):
    "JupyterLab selects the next cell on ArrowDown; not while a widget has the focus"
    page, _ = course
    selected = lambda: page.evaluate('window.jupyterapp.shell.currentWidget.content.activeCellIndex')
    for part in ('.em-knobs .em-curve', '.em-player figure', '.em-player .noUi-handle', '.em-tracing g'):
        page.locator(part).first.focus()
        was = selected()
        for _ in range(3): page.keyboard.press('ArrowDown')
        assert selected() == was, part


def test_live_widgets_on_a_narrow_page(course):
    page, _ = course
    page.evaluate('window.jupyterapp.shell.collapseLeft()')
    page.set_viewport_size(dict(width=390, height=800))
    page.wait_for_timeout(500)
    for name in ('player', 'explorer', 'tracing', 'monitor', 'knobs'):
        wide, room = page.evaluate("""name => {const box = document.querySelector(`.em-${name}`), place = box.getBoundingClientRect();
          const right = Math.max(...Array.from(box.querySelectorAll('figure, .em-curve, table, output')).map(e => e.getBoundingClientRect().right));
          return [right - place.left, box.closest('.jp-OutputArea-output').clientWidth]}""", name)
        assert wide <= room + 1, f'{name} is {wide:.0f} pixels wide where there are {room}'
    page.set_viewport_size(dict(width=1280, height=1000))


def test_nothing_went_wrong_on_the_page(course):
    page, wrong = course
    assert not wrong, f'errors in the console: {wrong[:5]}'
    assert not page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').count()
    assert 'Error' not in ' '.join(page.locator('.jp-Dialog, .jp-RenderedText[data-mime-type$="error"]').all_inner_texts())


def test_widgets_of_the_ef_lesson(browser, lab):
    page, wrong = ran(browser, lab, '03_ef')
    for box in ('.em-player', '.em-explorer'):
        picture, says = watch(page, box)
        was, said = picture(), says()
        page.locator(f'{box} .noUi-handle').first.focus()
        for _ in range(12): page.keyboard.press('ArrowRight')   # the volume rests for some frames around ED
        differs(page, picture, was, f'{box} in 03_ef'), differs(page, says, said, f'{box} in 03_ef')
    assert not wrong, f'errors in the console: {wrong[:5]}'
    page.close()


CLASSIC = """from echomotion.phantom import phantom_clip
from echomotion.ef import measure_ef
from echomotion.widgets import ClipPlayer, TracingExercise
p = phantom_clip(1, size=112, n_frames=30)
display(ClipPlayer(p.clip, result=measure_ef(p.masks, p.clip.fps, p.clip.pixel_mm)), TracingExercise(p.clip, p.masks))"""


@pytest.fixture(scope='module')
def classic(browser, lab):
    "A small notebook in the classic interface, run"
    cell = dict(cell_type='code', id='a', metadata={}, source=CLASSIC, outputs=[], execution_count=None)
    kernel = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
    (lab.folder/'classic.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5)))
    page, wrong = listening(browser, viewport=dict(width=1280, height=1000))
    page.goto(lab.classic('classic.ipynb'))
    page.wait_for_function('window.Jupyter?.notebook?.kernel?.is_connected()', timeout=60_000)
    page.wait_for_timeout(1000)   # its widgets' manager is loaded after the kernel
    page.evaluate('() => {Jupyter.notebook.execute_all_cells()}')
    page.locator('.em-tracing .em-own').first.wait_for(state='attached', timeout=120_000)
    return page, wrong


def test_widgets_in_the_classic_notebook(classic):
    page, wrong = classic
    picture, says = watch(page, '.em-player')
    was, said = picture(), says()
    page.locator('.em-player figure').first.focus()
    for _ in range(3): page.keyboard.press('ArrowRight')
    was, said = differs(page, picture, was, 'an arrow key on the picture'), differs(page, says, said, 'an arrow key on the picture')
    page.locator('.em-player .noUi-handle').first.focus()
    page.keyboard.press('ArrowRight')
    differs(page, picture, was, 'the slider by key')
    apex = page.locator('.em-tracing g[aria-label="ED, apex"]')
    apex.scroll_into_view_if_needed()
    _, says = watch(page, '.em-tracing')
    said, box = says(), apex.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y); page.mouse.down(); page.mouse.move(x, y - 15, steps=5); page.mouse.up()
    differs(page, says, said, 'a drag of a point')
    assert page.evaluate('Jupyter.notebook.mode') != 'edit' and page.locator('.cell').count() == 1, 'no key went to the notebook'
    assert not wrong, f'errors in the console: {wrong[:5]}'


# --- the twins

def twins():
    "(notebook, number of the output, HTML) for each twin that a notebook keeps"
    for path in notebooks():
        found = [''.join(o['data']['text/html']) for c in read_notebook(path)['cells'] for o in c.get('outputs', []) if 'class="em-twin' in ''.join(o.get('data', {}).get('text/html', ''))]
        yield from ((path.stem, i, text) for i, text in enumerate(found))


TWINS = list(twins())
names = [f'{stem}-{i}' for stem, i, _ in TWINS]


def open_twin(browser, text, tmp_path, dark=False, **kw):
    page, wrong = listening(browser, **kw)
    css = (ROOT/'nbs'/'styles.css').read_text()
    look = 'background:#222;color:#fff' if dark else 'background:#fff;color:#212529'
    file = tmp_path/'page.html'
    file.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>twin</title><style>{css} body{{margin:12px;{look}}}</style>'
                    f'<body class="{"quarto-dark" if dark else ""}"><div class="cell-output">{text}</div>', encoding='utf-8')
    page.unroute_all(); page.route(lambda url: not url.startswith(('file:', 'data:')), lambda r: r.abort())   # it loads nothing: a request is an error in the console
    page.goto(file.as_uri())
    return page, wrong


def test_there_is_a_twin_of_every_widget():
    said = ' '.join(html.unescape(text) for stem, _, text in TWINS if stem == '06_widgets')
    for part in ('"kind":"play"', '"show_disks"', '"tracings"', '"name":"epoch"', '"name":"gain"'): assert part in said, part


@pytest.mark.parametrize('stem,i,text', TWINS, ids=names)
@pytest.mark.parametrize('width', [1000, 390])
def test_twin_by_keyboard_on_desk_and_phone(browser, tmp_path, stem, i, text, width):
    page, wrong = open_twin(browser, text, tmp_path, viewport=dict(width=width, height=800), has_touch=width < 500)
    assert page.evaluate('document.documentElement.scrollWidth') <= width, 'runs off the side of the page'
    everything = lambda: page.evaluate("document.querySelector('.em-twin').innerHTML.length + ':' + Array.from(document.querySelectorAll('.em-twin img')).map(i => i.src.length + i.src.slice(-60)) + document.querySelector('.em-twin').innerText")
    sliders = page.locator('.em-twin input[type=range]')
    for k in range(sliders.count()):
        before = everything()
        sliders.nth(k).focus()
        page.keyboard.press('ArrowLeft' if sliders.nth(k).input_value() == sliders.nth(k).get_attribute('max') else 'ArrowRight')
        assert everything() != before, f'slider {k}: {sliders.nth(k).get_attribute("aria-label")}'
        assert sliders.nth(k).get_attribute('aria-label') and sliders.nth(k).bounding_box()['height'] >= 32
    for k in range(page.locator('.em-twin button').count()):
        button = page.locator('.em-twin button').nth(k)
        assert button.bounding_box()['height'] >= 32 and (button.get_attribute('aria-label') or button.inner_text())
    assert not wrong, wrong
    page.close()


CONTRAST = """() => {const rgb = s => s.match(/[\\d.]+/g).map(Number), lum = c => {const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b};
  const back = lum(rgb(getComputedStyle(document.body).backgroundColor)), bad = [];
  document.querySelectorAll('.em-twin *').forEach(e => {if (e.closest('figure') || e.closest('script') || e.closest('style')) return;
    const own = Array.from(e.childNodes).some(n => n.nodeType === 3 && /[\\w\\d]/.test(n.textContent)); if (!own) return;
    const style = getComputedStyle(e), ink = lum(rgb(e.closest('svg') ? style.fill : style.color)), [a, b] = [ink, back].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) bad.push(e.textContent.slice(0, 30))}); return bad}"""


@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
def test_twins_are_readable_in_light_and_dark(browser, tmp_path, dark):
    page, wrong = open_twin(browser, ''.join(text for stem, _, text in TWINS if stem == '06_widgets'), tmp_path, dark, viewport=dict(width=1000, height=800))
    assert page.evaluate(CONTRAST) == [], 'text with a contrast below 4.5'
    assert not wrong, wrong
    page.close()


def test_tracing_on_the_page_counts_as_python_does(browser, tmp_path):
    from echomotion.phantom import phantom_clip
    from echomotion.widgets import TracingExercise
    p = phantom_clip(1, size=112, n_frames=40)
    exercise = TracingExercise(p.clip, p.masks)
    page, wrong = open_twin(browser, exercise.static(), tmp_path, viewport=dict(width=390, height=800))
    cells = lambda: page.locator('.em-twin td').all_inner_texts()
    start = cells()
    apex = page.locator('.em-twin g[aria-label="ES, apex"]')
    apex.scroll_into_view_if_needed()
    box = apex.bounding_box(); x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y); page.mouse.down(); page.mouse.move(x, y - 15, steps=5); page.mouse.up()
    dragged = cells()
    assert dragged[2] != start[2] and dragged[3] != start[3], 'the drag changes the volume at ES and EF'
    page.locator('.em-twin g[aria-label="ED, left wall, middle"]').focus()
    for _ in range(8): page.keyboard.press('ArrowLeft')
    page.locator('.em-twin button:has-text("ES 1 pixel out")').click()
    for k in ('ED', 'ES'):
        moved = page.locator(f'.em-twin g[aria-label^="{k}, "]').evaluate_all("gs => gs.map(g => g.getAttribute('transform').match(/-?[\\d.]+/g).map(Number))")
        exercise.set(k, np.array(moved) - .5)   # a pixel's middle lies half a pixel inside
    found = cells()
    number = lambda s: float(s.rstrip('%'))
    for k, at in (('ED', 1), ('ES', 2)):
        assert abs(number(found[at]) / exercise.volume[k] - 1) < .04, f'volume at {k}: {found[at]} on the page, {exercise.volume[k]:.1f} in Python'
        assert abs(number(found[4 + at]) - exercise.dice[k]) < .015, f'Dice at {k}'
    assert abs(number(found[3]) - exercise.ef) < 2.5, f'EF: {found[3]} on the page, {exercise.ef:.1f} in Python'
    spread = [float(v) for v in re.findall(r'(-?[\d.]+)%', page.locator('.em-twin output').inner_text())]
    assert np.allclose(spread, exercise.spread('ES', 1), atol=3)
    page.locator('.em-twin input[type=checkbox]').check()
    assert 'truth' in page.locator('.em-twin table').inner_text().split('Dice')[0]
    assert not wrong, wrong
    page.close()


def test_static_player_plays_switches_and_stands_twice_on_a_page(browser, tmp_path):
    from echomotion.widgets import static_player
    y, x = np.mgrid[:112, :112] - 56
    masks = np.stack([(y / 34)**2 + (x / w)**2 <= 1 for w in 16 - 4 * np.sin(2 * np.pi * np.arange(48) / 24)**2])
    frames = np.where(masks, 20, 120 + 60 * np.random.default_rng(0).random((48, 112, 112))).astype(np.uint8)
    curve = masks.sum((1, 2)).astype(float); curve[20] = np.nan
    twin = static_player(frames, masks, curve, fps=40, unit='pixels', beats=[(0, 6)], max_frames=24, truth=masks)
    page, wrong = open_twin(browser, twin + twin, tmp_path, viewport=dict(width=1000, height=800))
    said = lambda k: page.locator('.em-twin output').nth(k).inner_text()
    assert page.locator('.em-twin[data-on]').count() == 2 and said(0).startswith('frame 0 of 48 · 0.00 s')
    page.locator('.em-twin input[type=range]').nth(1).focus()
    for _ in range(10): page.keyboard.press('ArrowRight')
    assert said(1) == 'frame 20 of 48 · 0.50 s · LV lost' and said(0).startswith('frame 0'), 'each player has its own slider'
    for cls, of in (('.em-outline', 'show_outline'), ('.em-truth', 'show_truth')):
        line = page.locator(f'.em-twin {cls}').first
        assert line.is_visible()
        page.locator(f'.em-twin input[data-of="{of}"]').first.uncheck()
        assert not line.is_visible()
    page.locator('.em-twin button').first.click()
    page.wait_for_function("!document.querySelector('.em-twin output').innerText.startsWith('frame 0 ')")
    page.locator('.em-twin button[aria-label=pause]').first.click()
    still = said(0); page.wait_for_timeout(300)
    assert said(0) == still
    svg = page.locator('.em-twin .em-curve svg').first.bounding_box()
    page.mouse.click(svg['x'] + svg['width'] - 12, svg['y'] + 40)
    assert said(0).startswith('frame 46 of 48')
    assert not wrong, wrong
    page.close()


def test_a_page_of_twins_stays_small():
    for path in notebooks():
        size = sum(len(text) for stem, _, text in TWINS if stem == path.stem)
        assert size < 5_000_000, f'{path.stem}: {size / 1e6:.1f} MB of twins'


def test_a_twin_shows_a_picture_before_its_script_runs(browser, tmp_path):
    "Where scripts do not run, as in a notebook that is not trusted, the first picture and its numbers are there"
    for stem, i, text in TWINS:
        if stem != '06_widgets': continue
        page, _ = open_twin(browser, re.sub(r'<script.*?</script>', '', text, flags=re.S), tmp_path, viewport=dict(width=600, height=800))
        assert page.evaluate("Array.from(document.querySelectorAll('.em-twin img')).every(i => i.naturalWidth > 30)") and page.locator('.em-twin img').count(), f'{stem}-{i}'
        page.close()
