"""Widgets at the edges: clips without an LV or with one frame, what 500 steps leave behind, how long a step takes"""
import time
import warnings

import numpy as np
import pytest
from browser import crowded
from echomotion.ef import measure_ef
from echomotion.phantom import phantom_clip, write_phantom_frames
from echomotion.widgets import ClipPlayer, EFExplorer, PhantomKnobs, TracingExercise, TrainingMonitor, mask_handles, static_player


def clip(n=48, size=112):
    y, x = np.mgrid[:size, :size] - size / 2
    width = 16 - 4 * np.sin(2 * np.pi * np.arange(n) / 24)**2
    masks = np.stack([(y / 34)**2 + (x / w)**2 <= 1 for w in width])
    return np.where(masks, 20, 120 + 60 * np.random.default_rng(0).random((n, size, size))).astype(np.uint8), masks


def alive():
    "Number of widgets that ipywidgets keeps"
    from ipywidgets.widgets import widget
    return len(getattr(widget, '_instances', {}))


def all_widgets(size=128):
    "Every widget with a function that moves it by one step"
    frames, masks = clip()
    player, explorer, exercise, knobs = ClipPlayer(frames, masks, truth=masks), EFExplorer(frames, measure_ef(masks, 40)), TracingExercise(frames, masks), PhantomKnobs(size=size)
    def set_to(control, values): return lambda i: setattr(control, 'value', values[i % len(values)])
    return dict(player=(player, player.picture, set_to(player.frame, range(48))), explorer=(explorer, explorer.es_picture, set_to(explorer.es, range(48))),
                tracing=(exercise, exercise.picture, set_to(exercise.x, np.linspace(30, 80, 41).tolist())),
                knobs=(knobs, knobs.picture, set_to(knobs.knobs['ef'], range(30, 71))), gain=(knobs, knobs.picture, set_to(knobs.knobs['gain'], range(-20, 11))))


def test_static_player_of_awkward_clips():
    frames, masks = clip(5)
    for args in ((frames,), (frames, masks), (frames, None, np.full(5, np.nan)), (frames[:1], masks[:1], np.ones(1)), (np.zeros((3, 300, 500), np.uint8), np.zeros((3, 300, 500), bool))):
        page = static_player(*args)
        assert 'type="range"' in page and 'NaN' not in page and 'nan' not in page
    assert len(static_player(*clip(400))) < 250_000, 'a long clip is thinned'


def test_500_steps_leave_nothing_behind():
    import matplotlib.pyplot as plt
    moves = all_widgets(size=64)
    before = alive()
    for name, (_, _, move) in moves.items():
        for i in range(60 if name == 'knobs' else 500): move(i)
    assert alive() == before and not plt.get_fignums()


@pytest.mark.parametrize('name', ['player', 'explorer', 'tracing', 'knobs', 'gain'])
def test_a_step_takes_less_than_100_ms(name):
    "From a control's event to the new picture, the least of a few medians, and more time where other work takes the cores"
    limit = 100 * crowded()
    _, picture, move = all_widgets()[name]
    seen, medians = [], []
    picture.observe(lambda _: seen.append(time.perf_counter()), 'value')
    for _ in range(8):
        times = []
        for i in range(1, 16):
            seen.clear(); start = time.perf_counter()
            move(i)
            assert seen or i == 1, 'the picture follows'
            if seen: times.append(seen[0] - start)
        medians.append(1000 * float(np.median(times)))
        if medians[-1] < limit: break
        limit = max(limit, 100 * crowded())
    print(f'{name}: {min(medians):.1f} ms a step (allowed: {limit:.0f})')
    assert min(medians) < limit, f'medians of {[round(m) for m in medians]} ms, allowed are {limit:.0f}'


def test_widgets_of_clips_without_lv_or_with_one_frame():
    frames, masks = clip(1)
    ClipPlayer(frames); ClipPlayer(frames, masks); TracingExercise(frames, masks).static()
    frames, masks = clip(6)
    empty = measure_ef(np.zeros_like(masks), 50)
    assert 'LV lost' not in ClipPlayer(frames, result=empty).says.value
    explorer = EFExplorer(frames, empty)
    assert np.isnan(explorer.ef) and 'NaN' not in explorer.static()
    explorer._dragged('curve', (.5, .5), (.9, .5), True)
    with pytest.raises(ValueError, match='nothing to trace'): TracingExercise(frames, np.zeros_like(masks))


def test_what_a_hand_can_send_breaks_nothing():
    frames, masks = clip(12)
    player = ClipPlayer(frames, masks)
    wire = player.children[-1].wire
    for text in ('', '{', '[]', '3', '{"pad":"curve"}', '{"pad":"curve","id":"a","from":[9,9],"to":[99,-5]}', '{"pad":"picture","id":"a","keys":[500,0]}', '{"pad":"picture","id":"a","keys":[-500,0]}'):
        wire.value = text
        assert 0 <= player.frame.value <= 11
    exercise = TracingExercise(frames, masks)
    exercise._dragged('picture', (.25, .3), (-4, 9), True)
    exercise.set('ES', np.zeros((9, 2)))   # a tracing without an area
    assert exercise.dice['ES'] == 0 and np.isfinite(exercise.dice['ED'])
    assert 'nan' in exercise.readout.value


def test_handles_hold_the_mask_in_mirrored_and_leaning_views():
    from echomotion.data import polygon_mask
    from echomotion.train import dice
    from echomotion.widgets import smooth_outline
    scores = []
    for seed in range(12):
        p = phantom_clip(seed, n_frames=30)
        for t in (p.ed, p.es):
            points = mask_handles(p.masks[t])
            assert points[0, 0] < points[8, 0], 'the left end of the annulus is left'
            scores.append(float(dice(polygon_mask(smooth_outline(points), p.masks[t].shape), p.masks[t])))
    assert np.median(scores) > .95 and min(scores) > .88, np.round(scores, 2)


def test_a_saved_notebook_shows_the_twin():
    for name, (widget, *_) in all_widgets().items():
        data, _ = widget._repr_mimebundle_()
        assert '<img' in data['text/html'] and 'em-twin' in data['text/html'] and 'application/vnd.jupyter.widget-view+json' in data
        assert 'http' not in data['text/html'] and len(data['text/html']) < 400_000, name


@pytest.fixture(scope='module')
def frames_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('monitor')
    write_phantom_frames(folder, dict(TRAIN=8, VAL=4), count=2, size=32, progress=False, workers=0)
    return folder


def learner(frames_dir, **kw):
    from echomotion.data import frame_dls
    from echomotion.train import lv_learner, preset_config
    config = preset_config('quick', size=32, width=4, depth=2, bs=4, **kw)
    learn = lv_learner(frame_dls(frames_dir, bs=4), config)
    return learn


def test_monitor_of_a_run_that_is_stopped_and_resumed(frames_dir):
    learn, monitor = learner(frames_dir), TrainingMonitor(show=False, every=0)
    before = None
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(2, cbs=monitor)
        before = alive()
        learn.fit_one_cycle(4, cbs=monitor, start_epoch=2)
    assert len(monitor.view.rows) == 4 and all(np.isfinite(r['dice']) for r in monitor.view.rows)
    assert alive() == before, 'the pictures change in place'
    assert monitor not in learn.cbs, 'it leaves with the run'
    assert 'em-twin' in monitor.static()


def test_monitor_without_validation_frames_and_while_the_learning_rate_is_looked_for(frames_dir):
    from fastai.callback.core import CancelValidException, Callback
    class NoValid(Callback):
        def before_validate(self): raise CancelValidException
    learn, monitor = learner(frames_dir), TrainingMonitor(show=False)
    with warnings.catch_warnings(), learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, cbs=[NoValid(), monitor])
    assert len(monitor.view.rows) == 1 and monitor.view.says.value
    assert 'em-twin' in TrainingMonitor(show=False).static(), 'before anything was trained'
