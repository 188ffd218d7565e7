"""Training on two processes: the same numbers as on one, one writer, another number of processes after a stop.

Starting a process that trains costs seconds, so one launch does several runs, and what one process does is done in this one.
"""
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from exports import ROOT

pytest.importorskip('accelerate', reason='pip install echomotion[archive]')
import psutil
import torch
from fastai.callback.core import Callback

from echomotion import archive
from echomotion.archive import rank_phantom_dls, shard_dls, train_on_ranks, write_shards
from echomotion.data import frame_dls
from echomotion.phantom import write_phantom_frames
from echomotion.train import TellPhase, load_model, preset_config, train_model

SCRIPT = '''
import json, sys
from echomotion.archive import train_on_ranks
from echomotion.train import Config
for frames, out, config in json.loads(sys.argv[1]):
    try: train_on_ranks(frames, out, Config(**config), progress=False)
    except OSError as e: print('ONE LINE:', e, flush=True); sys.exit(2)
'''
SMALL = dict(size=64, width=4, depth=3, bs=8, lr=.01, precision='fp32')
RUNS = dict(plain=preset_config('quick', epochs=2, **SMALL),
            stopped=preset_config('quick', epochs=12, augment=False, **{**SMALL, 'lr': .02}),   # after eleven of them, on one process
            # Adam makes much of the last digit of a gradient that is nearly 0: in a deep network only small steps can be compared
            lite=preset_config('quick', epochs=1, **{**SMALL, 'lr': .001}, arch='lite0', dice_loss=.3, flip=.5, restyle=True),
            shards=preset_config('quick', epochs=1, **{**SMALL, 'lr': .001}, arch='lite0'))


class Stop(Callback):
    "Ctrl-C after so many epochs"
    order = 90
    def __init__(self, after): self.after = after
    def after_epoch(self):
        if self.epoch + 1 == self.after: raise KeyboardInterrupt


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    out = tmp_path_factory.mktemp('frames')/'frames'
    write_phantom_frames(out, dict(TRAIN=8, VAL=3), count=3, size=64, workers=1, progress=False)   # 9 of VAL: not a multiple of anything
    return out


def launch(n, folder, jobs):
    "`torchrun` of some runs: (frames, out, config)"
    (folder/'run.py').write_text(SCRIPT)
    env = {**os.environ, 'PYTHONPATH': f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    words = json.dumps([[str(f), str(o), asdict(c)] for f, o, c in jobs])
    return subprocess.Popen([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(n), str(folder/'run.py'), words],
                            env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def ran(process, code=0):
    said, _ = process.communicate(timeout=400)
    assert (process.returncode == 0) == (code == 0), said[-3000:]
    return said


@pytest.fixture(scope='module')
def one_and_two(frames, tmp_path_factory):
    "The folders of the same runs on one process and on two"
    one, two = (tmp_path_factory.mktemp(name) for name in ('one', 'two'))
    write_shards(frames, one/'frames of shards', per_shard=7, progress=False)
    sources = {name: one/'frames of shards' if name == 'shards' else frames for name in RUNS}
    with pytest.raises(KeyboardInterrupt): train_model(frames, one/'stopped', RUNS['stopped'], progress=False, cbs=[Stop(11)])
    shutil.copytree(one/'stopped', two/'stopped')
    process = launch(2, two, [(sources[name], two/name, config) for name, config in RUNS.items()])
    try: [train_on_ranks(sources[name], one/name, config, progress=False) for name, config in RUNS.items()]
    finally: said = ran(process)
    assert 'ONE LINE' not in said
    return one, two


@pytest.mark.parametrize('name', RUNS)
def test_two_processes_learn_what_one_learns(one_and_two, name):
    a, b = (pd.read_csv(p/name/'history.csv') for p in one_and_two)
    first = 11 if name == 'stopped' else 0   # the first epoch that both did, from the same state
    for k in ('train_loss', 'valid_loss', 'dice', 'iou'): assert abs(a[k][first] - b[k][first]) < 1e-3, (k, a, b)
    assert a.n_empty[first] == b.n_empty[first] and len(b) == len(a) == RUNS[name].epochs
    if name == 'stopped': assert a.dice[first] > .1, 'a network that finds nothing shows nothing'
    kept = [sorted(p.name for p in (folder/name).iterdir()) for folder in one_and_two]
    assert kept[0] == kept[1] and load_model(one_and_two[1]/name).info['finished'], 'one writer, and the same files'


def test_the_place_in_the_beat_counts_once_over_ranks(monkeypatch):
    "Wherever the images lie whose place is known, the mean over the ranks is the mean over the batch"
    at, told, losses = torch.tensor([0, .5, -1, -1, 1, -1, -1, -1]), torch.randn(8, generator=torch.Generator().manual_seed(0)), []
    def loss(cb, part):
        cb.learn = SimpleNamespace(loss_grad=torch.tensor(0.), training=True)
        cb.at, cb.told = at[part], told[part]
        cb.after_loss()
        return float(cb.learn.loss_grad)
    for own in ([slice(0, 4), slice(4, 8)], [slice(0, 2), slice(2, 8)], [slice(0, 5), slice(5, 8)]):
        monkeypatch.setattr(archive, 'ranks', lambda: (0, 2)); monkeypatch.setattr(archive, '_sums', lambda numbers, device: [3.])
        losses.append(np.mean([loss(archive._RankPhase(.1), part) for part in own]))
    np.testing.assert_allclose(losses, loss(TellPhase(.1), slice(0, 8)), rtol=1e-5)


def test_a_killed_process_ends_the_run_and_another_number_goes_on(frames, tmp_path):
    out, config = tmp_path/'run', preset_config('quick', epochs=40, **{**SMALL, 'lr': .003})
    run, until = launch(2, tmp_path, [(frames, out, config)]), time.time() + 300
    while not (out/'history.csv').exists():
        assert run.poll() is None and time.time() < until; time.sleep(.1)
    ranked = [p for p in psutil.Process(run.pid).children(recursive=True) if 'run.py' in ' '.join(p.cmdline())]
    [p for p in ranked if p.environ().get('RANK') == '1'][0].kill()
    said = ran(run, code=1)
    told = [line for line in said.split('\n') if line.startswith('ONE LINE:')]
    assert len(told) == 1 and 'another process of this training is gone' in told[0] and 'start the same command again' in told[0], said[-3000:]
    before = pd.read_csv(out/'history.csv')
    if len(before) == 40: pytest.skip('it was finished before it could be killed')
    with pytest.raises(KeyboardInterrupt): train_model(frames, out, config, progress=False, cbs=[Stop(len(before) + 1)])   # and now on one
    again = pd.read_csv(out/'history.csv')
    assert len(again) == len(before) + 1
    pd.testing.assert_frame_equal(again[:len(before)], before)


def test_phantoms_are_drawn_in_turns(monkeypatch):
    def bytes_of(rank, of):
        monkeypatch.setenv('RANK', str(rank)); monkeypatch.setenv('WORLD_SIZE', str(of))
        dls = rank_phantom_dls(2, 8, size=32, n_valid=1)
        pictures = [p.numpy() for _ in range(2) for x, _ in dls.train for p in x]
        return len(pictures), {np.round(p*1000).astype(np.int32).tobytes() for p in pictures}
    (n, one), (a, first), (b, second) = bytes_of(0, 1), bytes_of(0, 2), bytes_of(1, 2)
    assert not first & second, 'no picture twice'
    assert n == a + b == 32 == len(one) == len(first) + len(second)


def test_accelerate_launches_the_command(tmp_path):
    from echomotion.phantom import write_phantom_dataset
    write_phantom_dataset(tmp_path/'data', dict(TRAIN=4, VAL=2, TEST=1), size=32, n_frames=12, workers=1, progress=False)
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    bin = Path(sys.executable).parent
    done = subprocess.run([bin/'accelerate', 'launch', '--cpu', '--num_processes', '2', '-m', 'echomotion', 'train', str(tmp_path/'data'),
                           '--out', str(tmp_path/'run'), '--preset', 'quick', '--epochs', '1', '--bs', '4', '--workers', '1'],
                          env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count('next: echomotion evaluate') == 1, 'the first process alone speaks'
    assert load_model(tmp_path/'run'/'model').info['finished']


# ---------------------------------------------------------------- shards
@pytest.mark.parametrize('workers', [0, 2])
def test_shards_give_the_batches_of_memory(frames, tmp_path, workers):
    table = write_shards(frames, tmp_path/'shards', per_shard=7, progress=False)
    assert len(table) == 33 and len(list((tmp_path/'shards').glob('*.tar'))) == 4 + 2
    disk, memory = shard_dls(tmp_path/'shards', bs=8, seed=3, workers=workers, phases=True), frame_dls(frames, bs=8, seed=3, phases=True)
    for a, b in ((disk.train, memory.train), (disk.valid, memory.valid)):
        a, b = list(a), list(b)
        assert len(a) == len(b) > 0
        for (x, m, p), (y, n, q) in zip(a, b):
            np.testing.assert_allclose(x.numpy(), y.numpy(), atol=1e-5); np.testing.assert_array_equal(m.numpy(), n.numpy())
            np.testing.assert_allclose(p.numpy(), q.numpy(), atol=1e-6)


def test_reading_shards_keeps_neither_memory_nor_files(frames, tmp_path):
    table = write_shards(frames, tmp_path/'s', per_shard=10, progress=False)
    (tmp_path/'many').mkdir()
    for k in range(250): (tmp_path/'many'/f'{k:03}.tar').symlink_to(tmp_path/'s'/table.shard[0])
    items = archive.ShardItems(tmp_path/'many', pd.concat([table[:1].assign(shard=f'{k:03}.tar') for k in range(250)]))
    def look(): return [items[i][1].any() for i in range(len(items))], psutil.Process().memory_info().rss/1e6
    found, before = look()
    assert all(found) and len(items.files) <= 200
    for _ in range(4): _, after = look()
    assert after - before < 10, 'MB more after four more passes'


def test_a_stopped_shard_is_written_again_and_the_whole_ones_stay(frames, tmp_path):
    write_shards(frames, tmp_path/'s', per_shard=10, progress=False)
    shards = sorted((tmp_path/'s').glob('*.tar'))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in shards}
    shards[1].unlink(); (tmp_path/'s'/'shards.json').unlink()
    write_shards(frames, tmp_path/'s', per_shard=10, progress=False)
    for p in shards:
        assert p.read_bytes() == before[p.name][0], 'the same bytes, whenever it is written'
        assert (p.stat().st_mtime_ns == before[p.name][1]) == (p != shards[1])


def test_other_programs_read_the_shards(frames, tmp_path):
    "The layout of WebDataset: the files of a sample follow each other, and share their name up to the first dot"
    write_shards(frames, tmp_path/'s', per_shard=10, progress=False)
    with tarfile.open(sorted((tmp_path/'s').glob('TRAIN*.tar'))[0]) as tar: names = tar.getnames()
    assert len(names) == 20 and all(a.split('.')[0] == b.split('.')[0] and (a.endswith('.png'), b.endswith('.mask.png')) == (True, True)
                                    for a, b in zip(names[::2], names[1::2]))


def test_training_from_shards_is_training_from_frames(frames, one_and_two, tmp_path):
    train_on_ranks(frames, tmp_path/'run', RUNS['shards'], progress=False)
    a, b = (pd.read_csv(p/'history.csv') for p in (tmp_path/'run', one_and_two[0]/'shards'))
    np.testing.assert_allclose(a[['train_loss', 'valid_loss', 'dice']], b[['train_loss', 'valid_loss', 'dice']], atol=1e-3)
