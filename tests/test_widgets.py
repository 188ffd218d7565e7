"""The static player in a real browser, and what widgets must not leave behind"""
import re
import shutil
import subprocess

import numpy as np
import pytest

from echomotion.ef import measure_ef
from echomotion.widgets import ClipPlayer, EFExplorer, static_player

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


def clip(n=48, size=112):
    y, x = np.mgrid[:size, :size] - size / 2
    width = 16 - 4 * np.sin(2 * np.pi * np.arange(n) / 24)**2
    masks = np.stack([(y / 34)**2 + (x / w)**2 <= 1 for w in width])
    return np.where(masks, 20, 120 + 60 * np.random.default_rng(0).random((n, size, size))).astype(np.uint8), masks


def in_browser(tmp_path, page, script):
    "What the page holds after `script` ran in it"
    file = tmp_path/'page.html'
    file.write_text(f'<!doctype html><meta charset="utf-8"><body>{page}<script>{script}</script>', encoding='utf-8')
    command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}/profile', '--virtual-time-budget=2000', '--dump-dom', file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason='no Chromium: install the chromium package to run the browser tests')
def test_static_player_in_a_browser(tmp_path):
    frames, masks = clip()
    curve = masks.sum((1, 2)).astype(float); curve[7] = np.nan
    page = static_player(frames, masks, curve, fps=40, unit='pixels', beats=[(0, 6)], max_frames=24)
    step = "var r=document.querySelector('input[type=range]');r.value=5;r.dispatchEvent(new Event('input'));"
    start, moved = in_browser(tmp_path, page, ''), in_browser(tmp_path, page, step)
    said = lambda dom: re.search('<output[^>]*>(.*?)</output>', dom).group(1)
    shown = lambda dom: re.search('<img[^>]*src="([^"]*)"', dom).group(1)
    outline = lambda dom: re.search(r'<path class="em-mask"[^>]* d="([^"]+)"', dom).group(1)
    assert said(start).startswith('frame 0 of 48 · 0.00 s') and said(moved).startswith('frame 10 of 48 · 0.25 s')
    assert shown(start) != shown(moved) and outline(start) != outline(moved)
    off = in_browser(tmp_path, page, "var c=document.querySelector('input[type=checkbox]');c.click()")
    assert re.search(r'<path class="em-mask"[^>]*display: none', off)
    twice = in_browser(tmp_path, page + page, step)
    assert twice.count('data-on="1"') == 2, 'the same player twice on a page: both must work'


def test_static_player_of_awkward_clips():
    frames, masks = clip(5)
    for args in ((frames,), (frames, masks), (frames, None, np.full(5, np.nan)), (frames[:1], masks[:1], np.ones(1)), (np.zeros((3, 300, 500), np.uint8), np.zeros((3, 300, 500), bool))):
        page = static_player(*args)
        assert 'type="range"' in page and 'NaN' not in page and 'nan' not in page
    assert len(static_player(*clip(400))) < 250_000, 'a long clip is thinned'


def test_500_steps_leave_nothing_behind():
    import matplotlib.pyplot as plt
    from ipywidgets import Widget
    frames, masks = clip()
    player, explorer = ClipPlayer(frames, masks), EFExplorer(frames, measure_ef(masks, 40))
    open_before = len(getattr(__import__('ipywidgets.widgets.widget', fromlist=['_instances']), '_instances', {}))
    for i in range(500):
        player.frame.value, explorer.ed.value = i % 48, (i * 7) % 48
    open_after = len(getattr(__import__('ipywidgets.widgets.widget', fromlist=['_instances']), '_instances', {}))
    assert open_before == open_after and not plt.get_fignums()
    assert isinstance(player, Widget)


def test_widgets_of_clips_without_lv_or_with_one_frame():
    frames, masks = clip(1)
    ClipPlayer(frames); ClipPlayer(frames, masks)
    frames, masks = clip(6)
    empty = measure_ef(np.zeros_like(masks), 50)
    assert 'LV lost' not in ClipPlayer(frames, result=empty).says.value
    assert np.isnan(EFExplorer(frames, empty).ef)


def test_a_saved_notebook_shows_the_twin():
    frames, masks = clip(8)
    for widget in (ClipPlayer(frames, masks), EFExplorer(frames, measure_ef(masks, 40))):
        data, _ = widget._repr_mimebundle_()
        assert '<img' in data['text/html'] and 'application/vnd.jupyter.widget-view+json' in data
