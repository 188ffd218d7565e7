"""Views and chambers: the tables of the lesson hold, hostile cases end in one line, and EF asks for the view."""
from dataclasses import replace

import numpy as np
import pytest

import echomotion.views as views
from echomotion.cli import main
from echomotion.data import Clip, read_frames
from echomotion.ef import clip_ef
from echomotion.phantom import phantom_clip
from echomotion.train import dice, load_model
from echomotion.views import (APICAL, OTHER, ViewModel, ViewNet, boundary_distances, chamber_labels, classify_view, decoy_clip, label_scores,
                              load_view_model, save_view_model, view_verdict, views_table, write_phantom_camus)


@pytest.fixture(scope='module')
def heart(): return phantom_clip(900_301, difficulty='clean', n_frames=20, ranges=dict(rotation=(-5, 5)))


def test_labels_of_a_phantom_are_where_the_heart_has_them(heart):
    assert (heart.labels == 1).sum() and ((heart.labels == 1) == heart.masks).all() and heart.labels.dtype == np.uint8
    for labels in heart.labels[::6]:
        rows = [np.argwhere(labels == k)[:, 0].mean() for k in (1, 3)]
        assert rows[0] < rows[1]                       # the atrium lies below the ventricle
        d = boundary_distances(np.isin(labels, (1, 2)), labels == 1, heart.clip.pixel_mm)
        assert 3 < d['mad'] < 15                       # and a wall of some millimetres around the cavity
    mirrored = phantom_clip(900_301, difficulty='clean', n_frames=20, ranges=dict(rotation=(-5, 5)))
    assert (mirrored.labels == heart.labels).all()


def test_chambers_are_found_in_the_pixels_of_the_clip(heart):
    found = chamber_labels(replace(heart.clip, frames=heart.clip.frames[:4], times=None))
    assert dice(found == 1, heart.masks[:4]).mean() > .8 and dice(found == 3, heart.labels[:4] == 3).mean() > .5
    mm = heart.clip.pixel_mm   # rows twice as many, half as high: the old release of CAMUS
    tall = Clip(np.repeat(heart.clip.frames[:4], 2, 1), 50., 'tall', (mm[0]/2, mm[1]))
    again = chamber_labels(tall)
    assert again.shape == (4, 224, 112) and dice(again[:, ::2] == 1, found == 1).mean() > .95


def test_distances_are_the_same_both_ways_and_unknown_of_nothing():
    y, x = np.mgrid[:60, :60]
    a, b = np.hypot(y - 30, x - 30) < 15, np.hypot(y - 30, x - 34) < 15
    assert boundary_distances(a, b) == boundary_distances(b, a) and 3 < boundary_distances(a, b)['hd95'] <= 4.2
    assert np.isnan(boundary_distances(a, a & False)['mad']) and boundary_distances(a, b, (2., 2.))['mad'] == pytest.approx(2*boundary_distances(a, b)['mad'])
    assert boundary_distances(a | True, a | True)['hd95'] == 0   # a mask that fills the picture
    scores = label_scores(a.astype(np.uint8), b.astype(np.uint8))
    assert scores.dice['cavity'] < 1 and scores.loc['left atrium'].isna().all()


@pytest.mark.parametrize('kind', ['M-mode screen', 'Doppler trace', 'kidney', 'short axis', 'text', 'colour Doppler'])
def test_what_is_drawn_is_not_apical(kind):
    seen = classify_view(decoy_clip(kind, 1_001, 8))
    assert seen.view == 'other' and kind in OTHER[seen.kind] and sum(seen.p.values()) == pytest.approx(1, abs=1e-3)


def test_a_heart_is_apical_and_its_mirror_is_told(heart):
    seen, turned = (classify_view(replace(heart.clip, frames=f)) for f in (heart.clip.frames, heart.clip.frames[..., ::-1].copy()))
    assert seen.view == 'A4C' and not seen.mirrored and turned.mirrored and set(seen.p) == {*APICAL, 'other'}


def test_ef_asks_for_the_view(heart, monkeypatch):
    model = load_model()
    assert np.isfinite(clip_ef(heart.clip, model).ef)
    monkeypatch.setattr(views, 'view_verdict', lambda clip: ('this looks like a fish', ()))
    refused = clip_ef(heart.clip, model)
    assert np.isnan(refused.ef) and refused.doubts == ('this looks like a fish',)
    monkeypatch.setattr(views, 'view_verdict', lambda clip: ('', ('fishy',)))
    assert 'fishy' in clip_ef(heart.clip, model).doubts
    assert np.isfinite(clip_ef(heart.clip, model, calibration=False).ef)


def test_without_weights_no_view_is_judged(heart, monkeypatch):
    def gone(path=None): raise FileNotFoundError('views.safetensors: no such file')
    monkeypatch.setattr(views, 'load_view_model', gone)
    assert view_verdict(heart.clip) == ('', ())


def test_files_that_are_no_view_weights_are_refused(tmp_path):
    import echomotion
    from pathlib import Path
    with pytest.raises(ValueError, match='no weights of a ViewNet'): load_view_model(Path(echomotion.__file__).parent/'weights'/'quick.safetensors')
    other = save_view_model(tmp_path/'v.safetensors', ViewModel(ViewNet(3), ('a', 'b', 'c'), 64, .1, .2))
    assert load_view_model(other).kinds == ('a', 'b', 'c')
    (tmp_path/'cut.safetensors').write_bytes(other.read_bytes()[:3000])
    with pytest.raises(ValueError, match='not a whole safetensors file'): load_view_model(tmp_path/'cut.safetensors')


def test_next_to_no_real_apical_recording_is_refused():
    t = views_table('confusion')
    real = t[t.source.str.startswith('real') & t.truth.isin(APICAL) & ~t.source.str.contains('mirrored')]
    if not len(real): pytest.skip('measured without real recordings')
    assert real.n.sum() > 100 and real.withheld.sum() <= .02*real.n.sum()


def test_train_and_evaluate_take_camus(tmp_path, capsys):
    write_phantom_camus(tmp_path/'camus', 3, 40)
    (tmp_path/'camus'/'subgroup_testing.txt').write_text('patient0002')
    (tmp_path/'camus'/'subgroup_validation.txt').write_text('patient0003')
    args = ['--preset', 'quick', '--epochs', '1', '--bs', '2', '--view', '2CH']
    assert main(['train', str(tmp_path/'camus'), '--out', str(tmp_path/'run'), *args]) == 0
    frames = read_frames(tmp_path/'run'/'frames')
    assert sorted(frames.name.unique()) == [f'patient000{i}_2CH' for i in (1, 2, 3)] and frames.split.tolist() == ['TRAIN']*2 + ['TEST']*2 + ['VAL']*2
    assert main(['evaluate', str(tmp_path/'camus'), '--view', '2CH', '--model', str(tmp_path/'run'), '--out', str(tmp_path/'eval')]) == 0
    said = capsys.readouterr().out
    assert 'report:' in said and (tmp_path/'eval'/'predictions.csv').read_text().count('patient0002_2CH') == 1
