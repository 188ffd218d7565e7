"""`LiveView` in a real JupyterLab: the picture moves, and EF is said."""
import json
import os
import re
import shutil

import pytest
from browser import chromium, jupyter_lab, missing, ran
from exports import ROOT
from hearts import Standin, stream

from echomotion.live import LiveEF

LACKS = missing()
if LACKS and not os.environ.get('CI'): pytest.skip(f'browser tests: {LACKS}', allow_module_level=True)

CELLS = ["""import time
from hearts import Standin, stream
from echomotion.live import LiveView
def scanner():
    for item in stream(600., fps=15): time.sleep(.03); yield item
view = LiveView(scanner(), Standin(), speed=0)   # 0: every frame, however slow this machine is
view""", 'view.start()']


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    folder, home = tmp_path_factory.mktemp('notebooks'), tmp_path_factory.mktemp('home')
    shutil.copy(ROOT/'tests'/'hearts.py', folder)
    cells = [dict(cell_type='code', id=f'c{i}', metadata={}, outputs=[], execution_count=None, source=s) for i, s in enumerate(CELLS)]
    nb = dict(cells=cells, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)
    (folder/'live.ipynb').write_text(json.dumps(nb))
    with jupyter_lab(folder, home) as server: yield server


def test_live_view_moves_and_says_ef(lab):
    if LACKS: pytest.fail(f'browser tests: {LACKS}')
    live = LiveEF(Standin())
    want = [live.push(*item) for item in stream(6., fps=15)][-1].ef
    with chromium() as browser:
        page, wrong = ran(browser, lab, 'live', height=900)
        page.set_default_timeout(120_000)
        picture = page.locator('.em-livescan img').first
        page.wait_for_function("document.querySelector('.em-livescan img')?.src.startsWith('blob:')")
        seen, said = set(), []
        for _ in range(400):
            seen.add(picture.get_attribute('src'))
            said.append(page.locator('.em-livescan output').inner_text())
            number = re.match(r'EF (\d+)%.* (\d) beats · measuring', said[-1])
            if len(seen) > 5 and number and int(number[2]) > 2: break
            page.wait_for_timeout(200)
        else: pytest.fail(f'{len(seen)} pictures, last words: {said[-1]!r}')
        assert abs(int(number[1]) - want) < 4, f'the page says {said[-1]!r}, measured without one it is {want:.0f}%'
        assert page.locator('.em-livescan .em-outline').first.get_attribute('d'), 'no outline over the picture'
        assert page.locator('.em-livescan .em-curve svg path').count(), 'no curve'
        assert page.locator('.em-livescan .em-view').get_attribute('data-state') == 'measuring'
        if os.environ.get('ECHOMOTION_SHOT'): page.screenshot(path=os.environ['ECHOMOTION_SHOT'])
        page.locator('.em-livescan button:has-text("stop")').click()
        page.wait_for_function("document.querySelector('.em-livescan output').textContent.includes('ended')")
        assert not wrong, wrong
