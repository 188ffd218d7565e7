"""Windows of frames and the networks that see them: what a notebook is the wrong place for."""
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from echomotion.cli import main
from echomotion.data import Clip, read_echonet
from echomotion.ef import clip_ef
from echomotion.phantom import write_phantom_dataset
from echomotion.time import (TIME_CONDITIONS, TimeModel, UNet2Plus1D, cache_clips, clip_windows, condition_clip, load_any_model, load_time_model, make_time_net,
                             save_time_model, time_config, time_learner, time_table, train_time, video_ef, window_dls, window_frames, window_loss)
from echomotion.train import load_model, make_net, preset_config, save_weights
from echomotion.unet import UNet

SMALL = dict(size=32, width=4, hidden=6, k=4, bs=2, windows=4, precision='fp32')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_phantom_dataset(tmp_path_factory.mktemp('time')/'data', dict(TRAIN=4, VAL=1, TEST=1), size=32, n_frames=24, ranges=dict(fps=(20, 25)),
                                 workers=0, progress=False)


@pytest.fixture(scope='module')
def cache(data, tmp_path_factory): return cache_clips(data, tmp_path_factory.mktemp('time')/'clips', 32, 0, False)


@pytest.fixture(scope='module')
def frame_weights(tmp_path_factory):
    "A frame-wise network whose answers are no constant"
    config, path = preset_config(size=32, width=4, precision='fp32'), tmp_path_factory.mktemp('time')/'frames.safetensors'
    torch.manual_seed(3)
    net = make_net(config)
    torch.nn.init.normal_(net.head.weight, std=40.)
    return save_weights(path, net, config, .2, .15)


@pytest.mark.parametrize('arch', ['frames', 'convlstm', '2plus1d'])
def test_before_training_all_give_the_answer_of_the_frame_wise_network(arch, frame_weights, cache):
    start, config = load_model(frame_weights), time_config(arch=arch, **SMALL)
    frames = cache(cache.table.name[0])[0]
    want = start.predict(frames)
    assert np.ptp(want) > .1
    got = TimeModel(make_time_net(config, start), config, start.mean, start.std).predict(frames)
    np.testing.assert_allclose(got, want, atol=1e-6)
    x = torch.from_numpy(frames[None, :, None]/np.float32(255))
    with torch.inference_mode():
        one = start.net.eval()(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        assert torch.equal(make_time_net(config, start).eval()(x), one), 'not to the last bit'


def test_training_changes_what_is_new(frame_weights, cache, tmp_path):
    start = load_model(frame_weights)
    for arch, new in (('convlstm', 'widen.weight'), ('2plus1d', 'down.0.conv.weight')):
        m = train_time(cache, tmp_path/arch, time_config(arch=arch, **SMALL), start, False)
        assert m.net.state_dict()[new].abs().max() > 0
        assert (m.mean, m.std) == (start.mean, start.std)
        same = train_time(cache, tmp_path/f'{arch}again', time_config(arch=arch, **SMALL), start, False)
        assert all(torch.equal(a, b) for a, b in zip(m.net.state_dict().values(), same.net.state_dict().values())), 'same seed, other weights'


def test_lstm_is_causal_and_2plus1d_is_not(cache):
    frames = cache(cache.table.name[0])[0]
    spoilt = frames.copy(); spoilt[10:] = 0
    changed = {}
    for arch, layer in (('convlstm', 'widen'), ('2plus1d', 'down')):
        config = time_config(arch=arch, **SMALL)
        net = make_time_net(config)
        torch.nn.init.normal_(net.unet.head.weight)
        for p in getattr(net, layer).parameters(): torch.nn.init.normal_(p, std=.5)
        m = TimeModel(net, config, .2, .15)
        changed[arch] = np.abs(m.predict(frames) - m.predict(spoilt)).max((1, 2))
        np.testing.assert_allclose(m.predict(frames, 5), m.predict(frames, 999), atol=1e-5)   # parts do not show
    assert changed['convlstm'][:10].max() < 1e-6 < changed['convlstm'][10:].max()
    assert changed['2plus1d'][8:10].max() > 1e-6


def test_memory_between_frames_does_not_grow():
    net = make_time_net(time_config(**SMALL)).eval()
    x = torch.rand(1, 1, 1, 32, 32)
    with torch.inference_mode():
        _, state = net.follow(x); first = [t.shape for t in state]
        for _ in range(20): _, state = net.follow(x, state)
    assert [t.shape for t in state] == first


def test_windows_follow_the_frame_rate():
    for fps in (25, 50, 90):
        w = window_frames(200, fps, 4, .2, .08)
        np.testing.assert_allclose(w[0]/fps, np.arange(4)*.08, atol=.5/fps)
        np.testing.assert_allclose(np.diff(w[:, 0])/fps, .2, atol=1/fps)


def test_sparse_labels_count_only_where_drawn(data, tmp_path):
    shutil.copytree(data.path, tmp_path/'traced', ignore=shutil.ignore_patterns('Masks', 'Volumes', 'Truth.csv'))
    sparse = cache_clips(read_echonet(tmp_path/'traced'), tmp_path/'clips', 32, 0, False)
    assert set(sparse.table.labelled) == {2}
    x, y = window_dls(sparse, 4, bs=2, device='cpu').one_batch()
    pred = torch.zeros(x.shape, requires_grad=True)
    window_loss(pred, y).backward()
    assert torch.equal(pred.grad.abs().flatten(2).sum(2) > 0, (y != 255).flatten(2).all(2))


def test_training_pictures_are_scaled_and_augmented_and_valid_ones_only_scaled(cache):
    "A DataBlock keeps one transform of a class: of three lambdas only the last would be left"
    dls = window_dls(cache, 4, bs=2, seed=1, device='cpu')
    for dl in dls.loaders:
        x = dl.one_batch()[0]
        assert -3 < float(x.min()) and 1 < float(x.max()) < 12
    plain = [b[0] for b in dls.valid]
    assert all(torch.equal(a, b[0]) for a, b in zip(plain, dls.valid))
    name, at = clip_windows(cache, 'VAL', 4, .4)[0]
    want = (torch.from_numpy(cache(name, at)[0]).float()/255 - cache.mean)/cache.std
    torch.testing.assert_close(plain[0][0, :, 0].as_subclass(torch.Tensor), want)


def test_loading_costs_less_than_a_tenth():
    "Processor time of an epoch through the DataBlock beside the same steps over tensors in memory, at the size of `quick`"
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as folder:
        data = write_phantom_dataset(Path(folder)/'data', dict(TRAIN=2), size=112, n_frames=30, ranges=dict(fps=(20, 25)), workers=0, progress=False)
        loader = window_dls(cache_clips(data, Path(folder)/'clips', 112, 0, False), 6, bs=2, most=4, augment=False, device='cpu').train
        net, ready = UNet2Plus1D(UNet(16, 4)), [(x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)) for x, y in loader]
        def seconds(batches):
            began = time.process_time()
            for x, y in batches: window_loss(net(x), y).backward()
            return time.process_time() - began
        seconds(ready[:1])
        disk, memory = (min(seconds(b) for _ in range(2)) for b in (loader, ready))
    assert disk < 1.1*memory, f'{disk:.2f} s from files, {memory:.2f} s from memory'


def test_weights_are_refused_in_each_others_place(frame_weights, tmp_path):
    config = time_config(**SMALL)
    file = save_time_model(tmp_path/'w.safetensors', TimeModel(make_time_net(config), config, .2, .15))
    with pytest.raises(ValueError, match='single frames.*load_model') as e: load_time_model(frame_weights)
    assert '\n' not in str(e.value)
    with pytest.raises(ValueError, match='for windows.*load_time_model') as e: load_model(file)
    assert '\n' not in str(e.value)
    assert isinstance(load_any_model(file), TimeModel) and not isinstance(load_any_model(frame_weights), TimeModel)
    bad = make_time_net(config); bad.widen.bias.data[0] = np.nan
    with pytest.raises(ValueError, match='NaN'): load_time_model(save_time_model(tmp_path/'n.safetensors', TimeModel(bad, config, .2, .15)))
    whole = file.read_bytes(); file.write_bytes(whole[:len(whole)//2])
    with pytest.raises(ValueError, match='not a whole safetensors file'): load_time_model(file)


def test_bad_input_is_one_clear_line(cache):
    m = TimeModel(make_time_net(time_config(**SMALL)), time_config(**SMALL), .2, .15)
    with pytest.raises(ValueError, match='24 frames.*smaller k'): clip_windows(cache, 'TRAIN', 99)
    with pytest.raises(ValueError, match='NaN'): m.predict(np.full((3, 32, 32), np.nan))
    assert m.predict(np.zeros((1, 32, 32), np.uint8)).shape == (1, 32, 32)
    video = time_config(arch='slim_r2plus1d', size=32, width=2, k=6)
    video = TimeModel(make_time_net(video), video, .2, .15)
    for n in (1, 5):
        with pytest.raises(ValueError, match=f'{n} frames.*longer clip'): video_ef(Clip(np.zeros((n, 32, 32), np.uint8), fps=25., name='short'), video)
    one = clip_ef(Clip(np.zeros((1, 32, 32), np.uint8), fps=25., name='one'), m)
    assert np.isnan(one.ef) and one.doubts
    with pytest.raises(ValueError, match='NaN.*lower lr'):
        _diverge(cache)


def _diverge(cache):
    from echomotion.time import _fit_once
    learn = time_learner(window_dls(cache, 4, bs=2, most=4, device='cpu'), config := time_config(**SMALL))
    learn.model.unet.head.bias.data[:] = np.nan
    _fit_once(learn, config, False)


def test_short_clips_are_named_and_left_out(cache):
    some = replace(cache, table=cache.table.assign(n=[6, *cache.table.n[1:]]))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        windows = clip_windows(some, 'TRAIN', 8)
    assert cache.table.name[0] in str(said[0].message) and cache.table.name[0] not in {n for n, _ in windows}


def test_command_line_grows_a_network_and_measures_with_it(data, frame_weights, tmp_path, capsys):
    asked = ['train', str(data.path), '--out', str(tmp_path/'run'), '--arch', 'convlstm', '--windows', '6', '--workers', '1']
    assert main([*asked, '--start', str(frame_weights)]) == 0
    run = tmp_path/'run'/'time'
    assert load_time_model(run).config.size == 32
    assert main([*asked, '--start', str(run)]) == 2   # offered in the place of a frame-wise one
    said = capsys.readouterr().err.strip().split('\n')[-1]
    assert said.startswith('echomotion: ') and 'load_time_model' in said
    clip = str(data.clips.video[data.names()[0]])
    assert main(['ef', clip, '--model', str(run), '--engine', 'onnx', '--out', str(tmp_path/'ef')]) == 2
    assert 'leave out --engine onnx' in capsys.readouterr().err
    assert main(['ef', clip, '--model', str(run), '--out', str(tmp_path/'ef')]) == 0


def test_conditions_change_the_picture_and_not_the_heart():
    clips = {c: condition_clip(1, c, 32, 1.2) for c in TIME_CONDITIONS}
    for c in ('noise', 'drop-out', 'lost frames'): assert (clips[c].masks == clips['clean'].masks).all() and (clips[c].clip.frames != clips['clean'].clip.frames).any()


def test_table_in_the_package_is_fair():
    "The same hearts, seeds and conditions for each network, and compute within a step of each other"
    rows, nets = time_table('clips'), time_table('nets')
    assert len({len(g) for _, g in rows.groupby('arch')}) == 1 and not rows.duplicated(['arch', 'seed', 'condition', 'clip']).any()
    spent = nets.steps*nets.megaflops
    assert spent.max() - spent.min() <= nets.megaflops.max()


def test_the_name_hides_nothing():
    "A module called time in the package is not the standard library's"
    code = "import echomotion.time, time, sys; assert 'time' in sys.builtin_module_names and time.time() > 0 and echomotion.time is not time"
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True).returncode == 0
