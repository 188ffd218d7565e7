"""Labelled folders of real recordings, as CAMUS comes in both releases, made of phantoms; and what is wrong with a file ends in one clear line."""
import warnings
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from echomotion.data import example_clip, mask_to_tracing, write_avi, write_echonet_csv
from echomotion.ef import clip_ef, disk_volume, ejection_fraction, outside_doubts
from echomotion.evaluate import segmentation_table
from echomotion.phantom import phantom_clip
from echomotion.real import (LOOKS, PLACES, adapt_model, cavity_mask, error_table, exchange_table, outline_errors, outlined_clips, phantom_dice,
                             read_camus, real_figures, real_lines, real_scores, recording_signs, scanner_clips, trained_range, write_camus)
from echomotion.train import dice, load_model

RELEASES = ['nifti', 'mhd']


@lru_cache(maxsize=None)
def heart(seed=0):
    "A phantom, its masks as labels, and the frames of its largest and smallest mask"
    p = phantom_clip(900 + seed, n_frames=24, difficulty='clean')
    area = p.masks.sum((1, 2))
    return p, p.masks.astype(np.uint8), int(area.argmax()), int(area.argmin())


def patient(folder, number=1, release='nifti', sequence=False, seed=0, **info):
    "A patient made of a phantom, its pixels half as high as in the phantom: 2:1, as the old release has them"
    p, labels, ed, es = heart(seed)
    tall = lambda a: np.repeat(a, 2, -2)
    frames, labels, (row, col) = tall(p.clip.frames), tall(labels), p.clip.pixel_mm
    stills = {k: (frames[t], labels[t]) for k, t in (('ED', ed), ('ES', es))}
    whole = (frames, labels) if sequence else None
    if sequence: info = dict(ED=ed + 1, ES=es + 1, NbFrame=len(frames), FrameRate=p.clip.fps, **info)
    return write_camus(folder, number, stills, (row/2, col), release=release, sequence=whole, **info)


@pytest.mark.parametrize('release', RELEASES)
def test_both_releases_read_alike(tmp_path, release):
    patient(tmp_path, release=release, LVef=55., LVedv=100., LVesv=45., ImageQuality='Good')
    p, labels, ed, es = heart()
    data = read_camus(tmp_path)
    assert data.names() == ['patient0001_4CH'] and data.ed_es('patient0001_4CH') == (0, 1)
    clip = data.clip('patient0001_4CH')
    assert clip.shape == (2, 224, 112) and clip.pixel_mm == pytest.approx((p.clip.pixel_mm[0]/2, p.clip.pixel_mm[1]), rel=1e-4)
    assert (clip.frames[0, ::2] == p.clip.frames[ed]).all() and (data.mask('patient0001_4CH', 1)[::2] == (labels[es] == 1)).all()
    row = data.clips.loc['patient0001_4CH']
    assert row.EF_info == 55 and row.Quality == 'Good' and row.EF == row.EF_masks
    square = [disk_volume(p.masks[t], p.clip.pixel_mm) for t in (ed, es)]   # pixels that are not square change no millilitre
    assert (row.EDV_masks, row.ESV_masks) == pytest.approx(square, rel=.01) and row.EF == pytest.approx(ejection_fraction(*square), abs=.5)
    assert read_camus(tmp_path, ef_from='info').clips.EF.item() == 55


@pytest.mark.parametrize('release', RELEASES)
def test_half_sequence_is_the_clip_and_ed_may_come_after_es(tmp_path, release):
    patient(tmp_path, release=release, sequence=True)
    p, labels, ed, es = heart()
    data = read_camus(tmp_path)
    name, = data.names()
    assert data.ed_es(name) == (ed, es) and data.clip(name).fps == p.clip.fps and len(data.clip(name)) == 24
    assert (data.true_masks(name)[:, ::2] == p.masks).all()
    o = outlined_clips(tmp_path)[name]()
    assert o.moving and len(o.frames) == 24 and (o.ed, o.es) == (ed, es)


def test_official_split_files_decide_and_else_the_last_digit(tmp_path):
    for n in (1, 8, 9): patient(tmp_path/'database_nifti', n)
    assert read_camus(tmp_path/'database_nifti').clips.Split.tolist() == ['TRAIN', 'VAL', 'TEST']
    (tmp_path/'database_split').mkdir()
    (tmp_path/'database_split'/'subgroup_testing.txt').write_text('patient0001\npatient0008\n')
    assert read_camus(tmp_path/'database_nifti').names('TEST') == ['patient0001_4CH', 'patient0008_4CH', 'patient0009_4CH']
    assert read_camus(tmp_path).names() == read_camus(tmp_path/'database_nifti').names()   # one folder above will do


def broken(folder, how, release='nifti'):
    "Patient 1 broken in one way, patient 2 sound"
    patient(folder, 2, release)
    out = patient(folder, 1, release)
    if how == 'labels': write_camus(folder, 1, {'ED': (heart()[0].clip.frames[0], heart()[1][0]*255), 'ES': (heart()[0].clip.frames[0], heart()[1][0])}, (1.5, 1.5))
    elif how == 'size': write_camus(folder, 1, {k: (heart()[0].clip.frames[0], np.pad(heart()[1][0], 3)) for k in ('ED', 'ES')}, (1.5, 1.5))
    elif how == 'raw': (out/'patient0001_4CH_ED.raw').unlink()
    elif how == 'still': next(out.glob('*_ES.nii.gz')).unlink()
    elif how == 'cut': f = next(out.glob('*_ED.nii.gz')); f.write_bytes(f.read_bytes()[:200])
    elif how == 'empty': write_camus(folder, 1, {k: (heart()[0].clip.frames[0], heart()[1][0]*0) for k in ('ED', 'ES')}, (1.5, 1.5))
    return folder


@pytest.mark.parametrize('how, release, said', [('labels', 'nifti', 'labels 255'), ('size', 'nifti', 'the mask is (118, 118), its picture (112, 112)'), ('raw', 'mhd', '.raw'),
                                                ('still', 'nifti', 'patient0001_4CH_ES'), ('cut', 'nifti', 'copy it again'), ('empty', 'nifti', 'no pixel of the cavity')])
def test_one_bad_patient_is_named_in_one_line_and_the_rest_goes_on(tmp_path, how, release, said):
    with pytest.warns(UserWarning) as seen: data = read_camus(broken(tmp_path, how, release))
    assert data.names() == ['patient0002_4CH'] and len(seen) == 1
    lines = str(seen[0].message).split('\n')
    assert len(lines) == 2 and said in lines[1] and 'patient0001' in lines[1], lines
    assert dict(data.skipped)['patient0001_4CH']


def test_echonet_layout_is_read_with_its_two_traced_frames(tmp_path):
    p, labels, ed, es = heart()
    write_avi(tmp_path/'Videos'/'a.avi', p.clip.frames)
    clips = pd.DataFrame([dict(FileName='a', EF=55., ESV=45., EDV=100., FrameHeight=112, FrameWidth=112, FPS=50., NumberOfFrames=24, Split='TEST')])
    write_echonet_csv(tmp_path, clips, {'a': {t: mask_to_tracing(p.masks[t]) for t in (ed, es)}})
    o = outlined_clips(tmp_path)['a']()
    assert o.moving and o.ef == 55 and set(o.frames) == {ed, es} and o.frames[o.ed] == ed
    assert dice(o.masks[o.ed], p.masks[ed]) > .95
    assert [c.name for c in scanner_clips(tmp_path)] == ['a']


def test_evaluation_takes_camus_as_it_takes_echonet(tmp_path):
    patient(tmp_path, sequence=True)
    data = read_camus(tmp_path)
    table = segmentation_table(data, data.true_masks)
    assert table.phase.tolist() == ['ED', 'ES'] and (table.dice == 1).all() and (table.dice_true == 1).all()


def test_what_is_no_labelled_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folders patient0001'): read_camus(tmp_path)
    with pytest.raises(ValueError, match='nothing with outlines'): outlined_clips(tmp_path)
    np.savez(tmp_path/'a.npz', frames=heart()[0].clip.frames, masks=heart()[0].masks[:, :50])
    with pytest.raises(ValueError, match='they must have one size'): outlined_clips(tmp_path)['a']()
    scores = real_scores(tmp_path, progress=False)
    assert 'one size' in scores.error[0] and real_lines(scores) == ['none of 1 recordings could be measured']
    with pytest.raises(ValueError, match='labels 7'): cavity_mask(np.array([[7, 1]]), 'x')


def test_perfect_masks_get_perfect_figures_and_wide_ones_say_where(tmp_path, monkeypatch):
    import echomotion.real as real
    from scipy.ndimage import distance_transform_edt
    for n in (1, 2, 3): patient(tmp_path, n, seed=n)
    monkeypatch.setattr(real, '_found', lambda o, model: (o.masks, None))
    monkeypatch.setattr(real, '_said_of', lambda o, model: SimpleNamespace(ef=np.nan, doubts=()))
    f = real_figures(real_scores(tmp_path, model=object(), progress=False))
    assert f['dice_ed_median'] == f['dice_es_5%'] == f['area_ed_median'] == 1 and f['ef_bias'] == f['ef_mae'] == 0 and f['measured'] == 3
    wide = lambda o, model: (np.stack([distance_transform_edt(~m, o.clip.pixel_mm) <= 4 for m in o.masks]), None)
    monkeypatch.setattr(real, '_found', wide)
    scores = real_scores(tmp_path, model=object(), progress=False)
    assert real_figures(scores)['ef_bias'] < -3 and real_figures(scores)['area_es_median'] > real_figures(scores)['area_ed_median'] > 1.1
    assert error_table(scores).to_numpy() == pytest.approx(4, abs=1)


def test_the_exchange_of_parts_names_the_wrong_one(tmp_path, monkeypatch):
    import echomotion.real as real
    for n in (1, 2, 3): patient(tmp_path, n, seed=n)
    def side_wall_too_far_out(o, model):
        masks = o.masks.copy(); masks[o.es] |= np.roll(masks[o.es], 6, 1)
        return masks, None
    monkeypatch.setattr(real, '_found', side_wall_too_far_out)
    t = exchange_table(tmp_path, model=object(), progress=False)
    miss = t.ef_mae
    assert (t.recordings == 3).all() and miss['nothing'] > 5 and miss['the septum'] > .6*miss['nothing'], miss
    assert miss['the side wall'] < .4*miss['nothing'] and miss['both walls'] < .2*miss['nothing'], miss
    assert np.isfinite(t.ef_r).all()
    one = tmp_path/'one'; patient(one, 1, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert exchange_table(one, model=object(), progress=False).ef_r.isna().all(), 'one recording has no correlation'


def test_stills_are_doubted_for_what_they_show_and_not_for_want_of_time(tmp_path):
    patient(tmp_path, 1)
    usual = load_model().info['trained']
    sharp, blurred = (real_scores(tmp_path, trained=usual | dict(edge=most), progress=False).iloc[0] for most in (1e3, 0.))
    assert 'edge of the cavity' not in sharp.doubts and blurred.doubts.count('edge of the cavity is blurred') == 1, (sharp.doubts, blurred.doubts)
    assert not any(words in text for text in (sharp.doubts, blurred.doubts) for words in ('beat', 'frame rate'))
    assert sharp.clip_ef == pytest.approx(sharp.ef, abs=3)


def test_a_network_without_a_calibration_is_doubted_as_well():
    model = load_model()
    bare = replace(model, info=model.info | dict(trained=model.info['trained'] | dict(edge=0.)))
    told = clip_ef(heart()[0].clip, bare, calibration=False)
    assert told.interval is None and 'edge of the cavity' in told.doubts[-1]
    assert 0 < trained_range(model, 6, progress=False)['edge'] < 50


def test_errors_have_the_right_side_and_sign():
    y, x = np.mgrid[:120, :120]
    lv = ((x - 60)/18)**2 + ((y - 60)/40)**2 < 1
    moved = dict(zip(PLACES, outline_errors(np.roll(lv, 4, 1), lv, (.5, .5))))   # to the right: lateral outside, septum inside
    assert moved['lateral mid'] == pytest.approx(2, abs=.4) and moved['septal mid'] == pytest.approx(-2, abs=.4)
    assert abs(moved['apex']) < .8
    lower = dict(zip(PLACES, outline_errors(np.roll(lv, 6, 0), lv, (.5, .5))))
    assert lower['apex'] < -2 and lower['mitral plane'] > 2


def test_decoys_have_no_say_in_the_figures(tmp_path):
    patient(tmp_path/'camus', 1)
    (tmp_path/'decoys').mkdir()
    np.save(tmp_path/'decoys'/'black.npy', np.zeros((8, 64, 64), np.uint8)); (tmp_path/'decoys'/'notes.txt').write_text('not a recording')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        scores = real_scores(tmp_path/'camus', decoys=tmp_path/'decoys', progress=False)
    f = real_figures(scores)
    assert f['measured'] == 1 and f['decoys'] == 2 and f['decoys_with_ef'] == 0
    assert 'refused' in scores.error[scores.name == 'notes.txt'].item()


def test_signs_are_those_of_the_recording_and_doubts_have_words():
    signs = recording_signs(example_clip(), load_model())
    assert set(LOOKS) | {'sure', 'agree'} <= set(signs) and 0 < signs['sure'] <= 1
    trained = dict(mean=[signs[k] for k in LOOKS], sd=[.1]*len(LOOKS), precision=np.eye(len(LOOKS)).tolist(), distance=3., sure=signs['sure'], agree=signs['agree'])
    assert outside_doubts(signs, trained) == ()
    doubt, = outside_doubts(dict(signs, cavity=signs['cavity'] + .5), trained)
    assert 'grey of the cavity' in doubt and '5.0 standard deviations' in doubt


def test_adaptation_keeps_the_first_network_as_it_is_and_repeats(tmp_path):
    model, clips = load_model(device='cpu'), [phantom_clip(950 + i, n_frames=16).clip for i in range(2)]
    frames = clips[0].frames[:2]
    first = model.predict(frames)
    a, b = (adapt_model(clips, tmp_path/word, model, steps=2, rounds=1, n=4, allowed=1.) for word in 'ab')
    assert (model.predict(frames) == first).all() and (a.predict(frames) != first).any()
    assert all((x == y).all() for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values()))
    assert abs(phantom_dice(load_model(tmp_path/'a', device='cpu'), 4) - a.info['adapted']['phantoms_after']) < 2e-3


def test_refused_adaptation_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match='adaptation refused: Dice on phantoms fell from'):
        adapt_model([phantom_clip(950, n_frames=16).clip], tmp_path/'run', steps=0, share=1., n=4, allowed=-1.)
    assert not (tmp_path/'run').exists()


def test_recordings_that_cannot_be_read_are_named_and_the_others_adapted_to(tmp_path):
    np.save(tmp_path/'a.npy', phantom_clip(950, n_frames=8).clip.frames); (tmp_path/'b.avi').write_bytes(b'no video')
    with pytest.warns(UserWarning, match='b.avi'): assert [c.name for c in scanner_clips(tmp_path)] == ['a']
    with pytest.raises(FileNotFoundError, match='no such folder'): scanner_clips(tmp_path/'nowhere')
