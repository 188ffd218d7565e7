"""Makes the tables of two planes that lesson 10 shows, for the weights that the package carries:

    python scripts/views_tables.py [--hearts 60] [--cache FOLDER]

Simulates hearts in two planes, half of them of all families, half with a wall that moves less (one in five of these with an
aneurysm), measures both recordings with their true outlines and with those that the network finds, and writes beside the
weights views_biplane.csv, a row a heart. Masks are kept in --cache by the fingerprint of the weights, so that a run that was
stopped goes on. Seeds are fixed. Frame rates are drawn from 25 to 45 Hz, as more frames cost time and change little. On one
core it takes about half an hour."""
import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from echomotion.data import whole_file
from echomotion.ef import clip_ef, measure_ef, weights_stamp
from echomotion.phantom import Heart, Ventricle
from echomotion.train import load_model
from echomotion.views import biplane_ef, outline_strain, error_gain, two_planes

OUT = Path(__file__).resolve().parents[1]/'echomotion'/'weights'
SEED = 62_000_000   # of the hearts: no training met them


def family(i):
    "All families, then hearts with a wall that moves less, in turns"
    return None if i % 2 == 0 else 'aneurysm' if i % 10 == 9 else 'ischaemic'


def recordings(i, model, cache):
    "Both recordings of a heart as they were measured: a dictionary of arrays; made once"
    path = Path(cache)/weights_stamp(model)/f'{i:03d}.npz'
    if not path.exists():
        kept = {}
        for view, p in zip(('a4c', 'a2c'), two_planes(SEED + i, shape=family(i), ranges=dict(fps=(25, 45)))):
            r = clip_ef(p.clip, model, calibration=False)
            kept |= {f'{view}_true': np.packbits(p.masks, axis=-1), f'{view}_found': np.packbits(r.masks, axis=-1),
                     f'{view}_fps': p.clip.fps, f'{view}_pixel_mm': p.clip.pixel_mm, f'{view}_sector': p.clip.sector,
                     f'{view}_ef': p.ef, f'{view}_edv': p.edv, f'{view}_doubts': np.array(r.doubts, str), f'{view}_turn': p.view.rotation,
                     f'{view}_volumes': p.volumes, f'{view}_heart': repr(p.heart)}
        with whole_file(path) as f: np.savez_compressed(f, **kept)
    return dict(np.load(path))


def outlines(kept, view, which):
    "The measurement of a recording from its true or its found outlines"
    masks = np.unpackbits(kept[f'{view}_{which}'], axis=-1, count=kept[f'{view}_sector'].shape[1]).astype(bool)
    return measure_ef(masks, float(kept[f'{view}_fps']), tuple(kept[f'{view}_pixel_mm']), kept[f'{view}_sector'].astype(bool), view)


def true_strain(kept, view):
    "Shortening of the inner wall's outline in the plane of a recording, from the shape of the simulated ventricle; percent"
    heart = eval(str(kept[f'{view}_heart']), dict(Heart=Heart))   # we wrote it ourselves
    lv, s, length = Ventricle(heart), np.linspace(0, 1, 200), []
    ef = float(kept[f'{view}_ef'])
    for systole, volume in enumerate((float(kept[f'{view}_edv']), float(kept[f'{view}_edv'])*(1 - ef/100))):
        L, _, inner, _ = lv.contract(volume, systole)
        for side in (0, 180):
            k = round((float(kept[f'{view}_turn']) + side)/360*lv.n_theta) % lv.n_theta
            r = np.interp(s, lv.s[:, 0], np.where(lv.s[:, 0] <= 0, 0, inner[:, k]))
            length.append(np.hypot(np.diff(r), np.diff(s*L)).sum())
    return 100*((length[2] + length[3])/(length[0] + length[1]) - 1)


def row(i, kept):
    "What both planes and each alone say of a heart"
    out = dict(heart=i, group='all families' if family(i) is None else 'one wall moves less', angle=float(kept['a2c_turn'] - kept['a4c_turn']),
               ef_true=float(kept['a4c_ef'] + kept['a2c_ef'])/2, edv_true=float(kept['a4c_edv'] + kept['a2c_edv'])/2,
               strain_true=true_strain(kept, 'a4c'))
    for which in ('true', 'found'):
        r4, r2 = (outlines(kept, view, which) for view in ('a4c', 'a2c'))
        both = biplane_ef(r4, r2)
        out |= {f'{which}_biplane': both.ef, f'{which}_a4c': r4.ef, f'{which}_a2c': r2.ef, f'{which}_edv': both.edv,
                f'{which}_strain': outline_strain(r4), f'{which}_doubts': '; '.join(d for d in both.doubts if not d.startswith('A'))}
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--hearts', type=int, default=60)
    p.add_argument('--cache', default='runs/views_cache')
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    model, rows = load_model(device='cpu'), []
    for i in range(args.hearts):
        rows.append(row(i, recordings(i, model, args.cache)))
        print(f'{i + 1} of {args.hearts}', flush=True)
    t = pd.DataFrame(rows)
    with whole_file(OUT/'views_biplane.csv') as f: t.to_csv(f, index=False, float_format='%.3f')
    for which in ('true', 'found'):
        miss = {k: (t[f'{which}_{k}'] - t.ef_true).abs().to_numpy() for k in ('biplane', 'a4c', 'a2c')}
        print(f'{which} outlines:', *[f'{k} MAE {m.mean():.2f}' for k, m in miss.items()],
              *['better than {} by {:.2f} ({:.2f} to {:.2f})'.format(k, *error_gain(miss[k], miss['biplane'])) for k in ('a4c', 'a2c')], sep='; ')


if __name__ == '__main__': main()
