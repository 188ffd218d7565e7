"""Weights and runs that are damaged, mismatched, dangerous or interrupted: each gives one clear error, and nothing
half-written is ever read back as whole."""
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from echomotion.train import Config, load_model, make_net, preset_config, save_weights, train_model

SMALL = Config(size=32, width=4, depth=2, bs=4, epochs=3, lr=1e-2, precision='fp32', augment=False)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    return save_weights(tmp_path/'good.safetensors', make_net(SMALL), SMALL, .12, .19, dict(dice=.9))


def parts(path):
    "Tensors and header of a safetensors file"
    with safe_open(path, 'pt') as f: return {k: f.get_tensor(k) for k in f.keys()}, f.metadata()


def refused(path, *words, error=ValueError):
    with pytest.raises(error) as e: load_model(path)
    said = str(e.value)
    assert str(path) in said, f'the message does not name the file: {said}'
    for w in words: assert w in said, f'{w!r} not in: {said}'
    return said


def ellipses(folder, n=16, size=32, splits=('TRAIN', 'VAL')):
    "Extracted frames of dark ellipses in speckle, in the layout of `extract_frames`"
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:size, :size]/size
    for i in range(n):
        split = splits[0] if i < n*3//4 else splits[-1]
        mask = ((x - rng.uniform(.4, .6))/rng.uniform(.15, .25))**2 + ((y - .5)/rng.uniform(.2, .35))**2 < 1
        picture = rng.rayleigh(np.where(mask, 12, 60)).clip(0, 255).astype(np.uint8)
        (folder/split).mkdir(parents=True, exist_ok=True)
        files = f'{split}/p{i}_0.png', f'{split}/p{i}_0_mask.png'
        cv2.imwrite(str(folder/files[0]), picture)
        cv2.imwrite(str(folder/files[1]), mask.astype(np.uint8))
        rows.append(dict(name=f'p{i}', frame=0, phase='ED', split=split, image=files[0], mask=files[1]))
    pd.DataFrame(rows).to_csv(folder/'frames.csv', index=False)
    return folder


def same(a, b):
    a, b = a.net.state_dict(), b.net.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- what a file may be instead of weights

def test_good_weights_come_back(weights):
    model = load_model(weights)
    assert model.config == SMALL and (model.mean, model.std) == (.12, .19) and model.info['dice'] == .9


def test_missing(tmp_path):
    refused(tmp_path/'none.safetensors', 'no such file', error=FileNotFoundError)


def test_run_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match='weights.safetensors'): load_model(tmp_path)


def test_package_without_weights_says_how_to_train(monkeypatch, tmp_path):
    monkeypatch.setattr('echomotion.train._SHIPPED', tmp_path/'quick.safetensors')
    with pytest.raises(FileNotFoundError, match='train_model'): load_model()


class Bomb:
    def __reduce__(self): return os.system, ('touch "$ECHOMOTION_BOMB"',)


@pytest.mark.parametrize('name', ['model.pkl', 'model.pth', 'weights.safetensors'])
@pytest.mark.parametrize('how', ['pickle', 'torch', 'old torch'])
def test_pickle_is_refused_by_name_and_never_opened(tmp_path, monkeypatch, name, how):
    path, mark = tmp_path/name, tmp_path/'it-ran'
    monkeypatch.setenv('ECHOMOTION_BOMB', str(mark))
    if how == 'pickle': path.write_bytes(pickle.dumps(Bomb()))
    else: torch.save(Bomb(), path, _use_new_zipfile_serialization=how == 'torch')
    refused(path, 'pickle', 'not opened')
    assert not mark.exists(), 'the pickle was run'


@pytest.mark.parametrize('protocol', [0, 1])
def test_text_pickle_is_refused_too(tmp_path, monkeypatch, protocol):
    path, mark = tmp_path/'old.safetensors', tmp_path/'it-ran'
    monkeypatch.setenv('ECHOMOTION_BOMB', str(mark))
    path.write_bytes(pickle.dumps(Bomb(), protocol))
    refused(path)
    assert not mark.exists()


@pytest.mark.parametrize('share', [0, .0001, .01, .5, .999])
def test_truncated(weights, share):
    data = weights.read_bytes()
    weights.write_bytes(data[:int(len(data)*share)])
    refused(weights, 'truncated', f'{int(len(data)*share):,} bytes')


@pytest.mark.parametrize('data', [b'hello, these are no weights', b'\xff'*64, b'\x08' + bytes(7) + b'{"a": 1}', bytes(1000)])
def test_something_else(tmp_path, data):
    path = tmp_path/'weights.safetensors'
    path.write_bytes(data)
    refused(path)


def test_safetensors_of_another_program(tmp_path):
    path = tmp_path/'other.safetensors'
    save_file({'conv1.weight': torch.zeros(3, 3)}, path)
    refused(path, 'not EchoMotion', 'conv1.weight')


def test_one_flipped_bit(weights):
    data = bytearray(weights.read_bytes())
    data[-100] ^= 4
    weights.write_bytes(data)
    refused(weights, 'do not belong together')


# ---- parts that do not belong together

@pytest.mark.parametrize('change', [dict(mean='0.5'), dict(std='0.01'), dict(config=json.dumps(asdict(replace(SMALL, size=64)))),
                                    dict(info='{}'), dict(seal='0'*64)])
def test_header_changed_after_saving(weights, change):
    tensors, header = parts(weights)
    save_file(tensors, weights, {**header, **change})
    refused(weights, 'do not belong together')


def test_seal_missing(weights):
    tensors, header = parts(weights)
    header.pop('seal')
    save_file(tensors, weights, header)
    refused(weights, 'do not belong together')


def test_tensors_of_another_training(weights, tmp_path):
    torch.manual_seed(1)
    other = save_weights(tmp_path/'other.safetensors', make_net(SMALL), SMALL, .3, .2)
    save_file(parts(other)[0], weights, parts(weights)[1])
    refused(weights, 'do not belong together')


@pytest.mark.parametrize('other', [dict(width=6), dict(depth=3), dict(arch='resnet18')])
def test_weights_of_another_architecture(tmp_path, other):
    path = save_weights(tmp_path/'w.safetensors', make_net(SMALL), replace(SMALL, **other), .1, .2)
    refused(path, 'tensors are not those', 'expected')


@pytest.mark.parametrize('mean,std', [(0, .2), (1.2, .2), (.1, 0), (.1, -1), (float('nan'), .2), (33., 50.)])
def test_statistics_that_cannot_be(tmp_path, mean, std):
    refused(save_weights(tmp_path/'w.safetensors', make_net(SMALL), SMALL, mean, std), 'statistics make no sense')


def test_weights_that_are_nan(tmp_path):
    net = make_net(SMALL)
    with torch.no_grad(): net.head.weight.fill_(float('nan'))
    refused(save_weights(tmp_path/'w.safetensors', net, SMALL, .1, .2), 'NaN')


@pytest.mark.parametrize('config', [{'size': 33}, {'width': 10**9}, {'depth': 60}, {'arch': '__import__'}, {'colour': 1}, 7, None])
def test_configuration_that_makes_no_sense(weights, config):
    from echomotion.train import _read_tensors, _write_tensors
    tensors, header = _read_tensors(weights, '')
    header['config'] = {**header['config'], **config} if isinstance(config, dict) else config
    _write_tensors(weights, tensors, header)
    refused(weights, 'configuration makes no sense')


def test_large_configuration_costs_no_memory(weights):
    from echomotion.train import _read_tensors, _write_tensors
    tensors, header = _read_tensors(weights, '')
    header['config'].update(width=512, depth=8, size=4096)   # would take terabytes if it were built before it is compared
    _write_tensors(weights, tensors, header)
    refused(weights, 'tensors are not those')


def test_frames_of_another_size_are_refused(weights):
    with pytest.raises(ValueError, match='segment_clip'): load_model(weights).predict(np.zeros((2, 64, 64), np.uint8))


# ---- saving that is cut off

def test_disk_full_leaves_the_old_weights(weights):
    before, left = weights.read_bytes(), sorted(weights.parent.iterdir())
    code = f'''
import resource, signal, sys
from echomotion.train import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
net = make_net({SMALL!r})
try: save_weights({str(weights)!r}, net, {SMALL!r}, .3, .3)
except OSError as e: print('refused:', e); sys.exit(3)
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    assert weights.read_bytes() == before and sorted(weights.parent.iterdir()) == left
    load_model(weights)


def test_kill_while_saving_never_leaves_half_a_file(tmp_path):
    path = tmp_path/'w.safetensors'
    code = f'''
import torch
from echomotion.train import *
config = Config(width=16, depth=4, size=32)
net = make_net(config); print('ready', flush=True)
while True: save_weights({str(path)!r}, net, config, .1, .2)
'''
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() == 'ready'
    end = time.time() + 60
    while not path.exists() and time.time() < end: time.sleep(.01)
    for _ in range(10):   # looked at from outside while it is written again and again
        load_model(path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert load_model(path).config.width == 16
    assert [p.name for p in tmp_path.glob('*.safetensors') if not p.name.startswith('.')] == ['w.safetensors']


# ---- training that is cut off

def test_kill_in_training_resumes_to_the_same_weights(tmp_path):
    frames, config = ellipses(tmp_path/'frames'), replace(SMALL, epochs=4, augment=True)
    straight = train_model(frames, tmp_path/'straight', config, progress=False)
    code = f'''
import os, signal
import echomotion.train as t
class Kill(t.Callback):
    def before_batch(self):
        if self.epoch == 2 and self.training and self.iter == 1: os.kill(os.getpid(), signal.SIGKILL)
make = t.lv_learner
t.lv_learner = lambda dls, config: make(dls, config).add_cb(Kill())
t.train_model({str(frames)!r}, {str(tmp_path/'killed')!r}, t.{config!r}, progress=False)
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=os.environ | thread_limit())
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert (tmp_path/'killed'/'resume.safetensors').exists()
    best = load_model(tmp_path/'killed')
    assert best.info['epochs_done'] == 2 and not best.info['finished']
    resumed = train_model(frames, tmp_path/'killed', config, progress=False)
    assert same(straight, resumed), 'a run that was killed and resumed ended in other weights'
    a, b = (pd.read_csv(tmp_path/n/'history.csv').drop(columns='seconds') for n in ('straight', 'killed'))
    pd.testing.assert_frame_equal(a, b)
    assert not (tmp_path/'killed'/'resume.safetensors').exists()


def thread_limit(): return {'OMP_NUM_THREADS': str(torch.get_num_threads())}


def stopped(monkeypatch, frames, out, config):
    "A run stopped by Ctrl-C in its second epoch"
    import echomotion.train as t

    class Stop(t.Callback):
        def before_batch(self):
            if self.epoch == 1 and self.training: raise KeyboardInterrupt
    make = t.lv_learner
    with monkeypatch.context() as m:
        m.setattr(t, 'lv_learner', lambda dls, c: make(dls, c).add_cb(Stop()))
        with pytest.raises(KeyboardInterrupt): train_model(frames, out, config, progress=False)


def test_damaged_state_is_refused_and_can_be_left(tmp_path, monkeypatch):
    frames, out = ellipses(tmp_path/'frames'), tmp_path/'run'
    stopped(monkeypatch, frames, out, SMALL)
    state = out/'resume.safetensors'
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(ValueError, match='resume=False'): train_model(frames, out, SMALL, progress=False)
    assert train_model(frames, out, SMALL, resume=False, progress=False).info['finished']


def test_training_state_is_not_taken_for_weights(tmp_path, monkeypatch):
    frames, out = ellipses(tmp_path/'frames'), tmp_path/'run'
    stopped(monkeypatch, frames, out, SMALL)
    refused(out/'resume.safetensors', 'training state')


def test_stop_leaves_no_autocast_behind(tmp_path, monkeypatch):
    stopped(monkeypatch, ellipses(tmp_path/'frames'), tmp_path/'run', replace(SMALL, precision='bf16'))
    assert not torch.is_autocast_enabled('cpu')


def test_two_runs_do_not_mix(tmp_path):
    frames, out = ellipses(tmp_path/'frames'), tmp_path/'run'
    one = replace(SMALL, epochs=1)
    first = train_model(frames, out, one, progress=False)
    with pytest.raises(ValueError, match='seed: 0 there, 5 asked'): train_model(frames, out, replace(one, seed=5), progress=False)
    assert same(first, train_model(frames, out, one, progress=False))
    ellipses(tmp_path/'frames', n=20)
    with pytest.raises(ValueError, match='frames'): train_model(frames, out, one, progress=False)


def test_caller_keeps_its_random_numbers(tmp_path):
    frames = ellipses(tmp_path/'frames')
    torch.manual_seed(3); np.random.seed(3)
    want = torch.rand(2).tolist(), np.random.rand()
    torch.manual_seed(3); np.random.seed(3)
    train_model(frames, tmp_path/'run', replace(SMALL, epochs=1), progress=False)
    assert (torch.rand(2).tolist(), np.random.rand()) == want


def test_progress_false_is_silent(tmp_path, capfd):
    train_model(ellipses(tmp_path/'frames'), tmp_path/'run', replace(SMALL, epochs=1), progress=False)
    assert capfd.readouterr().out == ''


def test_precisions_agree(tmp_path):
    "Trained in bfloat16, the network gives the same masks in both precisions: batch norm's averages hold for both"
    from echomotion.data import load_frames
    from echomotion.train import LVModel, dice
    frames = ellipses(tmp_path/'frames', n=40, size=48)
    model = train_model(frames, tmp_path/'run', replace(SMALL, size=48, width=8, epochs=6, precision='bf16'), progress=False)
    pictures, _ = load_frames(frames, 'VAL')
    a, b = (LVModel(model.net, replace(model.config, precision=p), model.mean, model.std).predict(pictures) > .5 for p in ('fp32', 'bf16'))
    assert a.any() and dice(a, b).mean() > .99


def test_diverging_training_says_so(tmp_path, monkeypatch):
    import echomotion.train as t
    make = t.lv_learner

    def broken(dls, config):
        learn = make(dls, config)
        with torch.no_grad(): learn.model.head.bias.fill_(float('nan'))
        return learn
    monkeypatch.setattr(t, 'lv_learner', broken)
    with pytest.raises(FloatingPointError, match='lower Config.lr'):
        train_model(ellipses(tmp_path/'frames'), tmp_path/'run', SMALL, progress=False)


@pytest.mark.parametrize('value', [255, 2])
def test_mask_that_is_no_mask_stops_before_training(tmp_path, value):
    frames = ellipses(tmp_path/'frames')
    file = frames/'TRAIN'/'p3_0_mask.png'
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)*value)
    with pytest.raises(ValueError, match='p3_0_mask.png'): train_model(frames, tmp_path/'run', SMALL, progress=False)
    assert not (tmp_path/'run'/'history.csv').exists()


def test_no_validation_split_warns_and_trains(tmp_path):
    frames = ellipses(tmp_path/'frames', splits=('TRAIN',))
    with pytest.warns(UserWarning, match='no frame belongs to split VAL'):
        model = train_model(frames, tmp_path/'run', replace(SMALL, epochs=2), progress=False)
    assert model.info['finished'] and 'dice' not in model.info


def test_fewer_frames_than_a_batch(tmp_path):
    frames = ellipses(tmp_path/'frames', n=4)
    assert train_model(frames, tmp_path/'run', replace(SMALL, bs=16, epochs=1), progress=False).info['finished']


def test_presets_are_valid():
    for name in ('quick', 'full'): assert preset_config(name).preset == name
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        make_net(preset_config('quick'))
