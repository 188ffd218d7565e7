"""Measures the networks of lesson 8 against each other, with the same hearts and the same compute for each:

    python scripts/time_tables.py --cache FOLDER [--real FOLDER] [--seeds 3] [--hearts 24] [--steps 150]

Trains a frame-wise U-Net on phantoms, then from its weights (a) itself, (b) with a ConvLSTM, (c) as a (2+1)D U-Net, each for as
many steps as cost the operations of `--steps` steps of (a); and a slim R(2+1)D for EF. Every network meets the same fresh hearts in
five conditions and, where a folder is named, real recordings (of these only figures are kept). Writes echomotion/weights/time_*.csv.
What is done is kept in --cache, and a run that was stopped goes on; `--tables` alone writes the tables from it."""
import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from echomotion.data import whole_file
from echomotion.ef import clean_masks, measure_ef, segment_clip
from echomotion.phantom import write_phantom_dataset
from echomotion.real import outlined_clips
from echomotion.time import (TIME_CONDITIONS, cache_clips, condition_clip, frames_a_second, load_time_model, make_time_net, outline_scores,
                             time_config, train_time, video_ef)
from echomotion.train import LVModel, dice, load_model, preset_config
from echomotion.unet import count_flops, count_parameters

OUT = Path(__file__).resolve().parents[1]/'echomotion'/'weights'
ARCHS = 'frames', 'convlstm', '2plus1d'
SEED = 73_000_000   # of the hearts that are measured: no training met them
RANGES = dict(fps=(20, 30), exposure=(0, 1), noise=(-60, -32), dropout=(0, 1))


def kept(path, make):
    "Rows kept as JSON, made if need be"
    if not path.exists():
        rows = make()
        with whole_file(path) as f: f.write_text(json.dumps(rows))
    return json.loads(path.read_text())


def test_hearts(a):
    "The hearts in every condition, kept as arrays"
    for i in range(a.hearts):
        for condition in TIME_CONDITIONS:
            path = a.cache/'hearts'/f'{i}_{condition.replace(" ", "_")}.npz'
            if not path.exists():
                p = condition_clip(SEED + i, condition, a.size)
                with whole_file(path) as f, open(f, 'wb') as file:
                    np.savez_compressed(file, frames=p.clip.frames, masks=p.masks, fps=p.clip.fps, ed=p.ed, es=p.es, ef=p.ef)
            with np.load(path) as z: yield i, condition, {k: z[k] for k in z.files}


class Smoothed:
    "A frame-wise network whose probabilities are averaged over three frames: what time gives for nothing"
    def __init__(self, model): self.model, self.config = model, model.config
    def predict(self, frames, batch_size=32):
        p = np.pad(self.model.predict(frames, batch_size), [(1, 1), (0, 0), (0, 0)], mode='edge')
        return (p[:-2] + p[1:-1] + p[2:])/3


def phantom_rows(a, model, arch, seed):
    rows = []
    for i, condition, z in test_hearts(a):
        scores = outline_scores(model.predict(z['frames']) > .5, z['masks'], float(z['fps']), int(z['ed']), int(z['es']))
        rows.append(dict(arch=arch, seed=seed, condition=condition, clip=i, ef_true=float(z['ef']), **scores))
    return rows


def real_rows(a, model, arch, seed):
    "Every second frame, so that the frames lie as far apart in time as those of the training"
    rows = []
    for name, read in outlined_clips(a.real).items():
        o = read()
        every = np.arange(0, len(o.clip), 2)
        clip = replace(o.clip, frames=o.clip.frames[every], fps=25., times=None)
        masks, truth = segment_clip(clip, model, batch_size=len(clip)), {int(t): m for t, m in zip(o.frames, o.masks)}
        known = [t for t, f in enumerate(every) if int(f) in truth]
        drawn = np.stack([truth[int(every[t])] for t in known])
        area = drawn.sum((1, 2))
        d = dice(masks[known], drawn)
        scores = outline_scores(masks[known], drawn, 25., int(area.argmax()), int(area.argmin())) if len(known) == len(clip) else dict(
            dice=float(d.mean()), dice_ed=float(d[area.argmax()]), dice_es=float(d[area.argmin()]), jitter=np.nan, ef=np.nan)
        ef_true = measure_ef(clean_masks(drawn), 25.).ef if len(known) == len(clip) else np.nan
        rows.append(dict(arch=arch, seed=seed, condition='real', clip=len(rows), ef_true=float(ef_true), **scores))
    return rows


def write(name, rows):
    table = pd.DataFrame(rows)
    with whole_file(OUT/f'time_{name}.csv') as f: table.to_csv(f, index=False, float_format='%.4g')
    print(f'time_{name}.csv: {len(table)} rows', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cache', type=Path, default=Path('runs/time'))
    parser.add_argument('--real'); parser.add_argument('--tables', action='store_true', help='train and measure nothing new')
    for name, value in dict(seeds=3, hearts=24, clips=320, size=64, width=16, first=300, steps=150, k=8, bs=6, video=300).items():
        parser.add_argument(f'--{name}', type=int, default=value)
    a = parser.parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    settings = dict(size=a.size, width=a.width, k=a.k, bs=a.bs)
    done, nets, real = [], [], []
    if not a.tables:
        data = write_phantom_dataset(a.cache/'phantoms', dict(TRAIN=a.clips, VAL=8), size=a.size, seed=72, difficulty='wide', ranges=RANGES, workers=0, progress=False)
        cache = cache_clips(data, a.cache/'clips', a.size, workers=0, progress=False)
        first = train_time(cache, a.cache/'first', time_config(arch='frames', windows=a.first*a.bs, lr=3e-3, **settings), progress=False)
        start = LVModel(first.net.unet, preset_config(arch='unet', size=a.size, width=a.width), first.mean, first.std, first.info)
        print('first', first, flush=True)
    flops = {arch: count_flops(make_time_net(time_config(arch=arch, **settings)), a.size, k=a.k)/a.k for arch in ARCHS}
    jobs = [(seed, arch, int(a.steps*flops['frames']/flops[arch])) for seed in range(a.seeds) for arch in ARCHS]
    for seed, arch, steps in jobs:
        run = a.cache/f'{arch}_{seed}'
        if a.tables and not (run/'weights.safetensors').exists(): continue
        config = time_config(arch=arch, seed=seed, windows=steps*a.bs, **settings)
        model = load_time_model(run, 'cpu') if a.tables else train_time(cache, run, config, start, progress=False)
        done += kept(a.cache/f'{arch}_{seed}_clips.json', lambda: phantom_rows(a, model, arch, seed))
        if arch == 'frames': done += kept(a.cache/f'smoothed_{seed}_clips.json', lambda: phantom_rows(a, Smoothed(model), 'smoothed', seed))
        if a.real and arch == 'frames': real += kept(a.cache/f'smoothed_{seed}_real.json', lambda: real_rows(a, Smoothed(model), 'smoothed', seed))
        if a.real: real += kept(a.cache/f'{arch}_{seed}_real.json', lambda: real_rows(a, model, arch, seed))
        speed = kept(a.cache/f'{arch}_{seed}_speed.json', lambda: frames_a_second(model))
        nets.append(dict(arch=arch, seed=seed, parameters=count_parameters(model.net), megaflops=flops[arch]/1e6, steps=steps,
                         cpu_seconds=model.info['cpu_seconds'], dice_val=model.info['dice'], frames_a_second=speed))
        print(time.strftime('%H:%M'), arch, seed, model, flush=True)
        write('clips', done); write('nets', nets)
        if real: write('real', real)
    if a.real and real:
        real += kept(a.cache/'package_real.json', lambda: real_rows(a, load_model(device='cpu'), 'package', 0))
        write('real', real)
    if a.video and not a.tables:
        video = train_time(cache, a.cache/'video', time_config(arch='slim_r2plus1d', size=a.size, width=12, windows=a.video*8, lr=3e-3), progress=False)
        write('video', kept(a.cache/'video.json', lambda: video_rows(a, video)))


def video_rows(a, model):
    "EF of the same hearts, by one window and by the mean of all"
    from echomotion.data import Clip
    rows = []
    for i, condition, z in test_hearts(a):
        ef, each = video_ef(Clip(z['frames'], fps=float(z['fps']), name=f'heart {i}'), model)
        rows.append(dict(condition=condition, clip=i, ef_true=float(z['ef']), ef=ef, one_window=float(each[0]), windows=len(each)))
    return rows


if __name__ == '__main__': main()
