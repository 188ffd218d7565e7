"""EF while scanning beside EF afterwards, on simulated hearts: what lesson 09 shows. A row a heart, written as it goes; the same call goes on.

python scripts/live_agreement.py [--hearts 100] [--out echomotion/weights/quick_live.csv]"""
import argparse
from pathlib import Path

import pandas as pd

from echomotion.ef import clip_ef
from echomotion.live import LiveEF, live_agreement, with_engine
from echomotion.phantom import draw_parameters, phantom_clip
from echomotion.train import load_model

FIRST = 62_000_000   # seeds of hearts that nothing was chosen on


def heart(seed):
    "A simulated heart, three beats and a third"
    drawn, _, scanner = draw_parameters(seed, 'typical')
    return phantom_clip(seed, n_frames=int(3.3*60/drawn.heart_rate*scanner.fps))


def row(seed, model):
    "Median EF of the beats that both saw to their end"
    p = heart(seed)
    live = LiveEF(model, p.clip.fps, p.clip.pixel_mm)
    beats = live_agreement([live.push(f) for f in p.clip.frames] + live.finish(), clip_ef(p.clip, model, calibration=False))
    return dict(seed=seed, fps=p.clip.fps, beats=len(beats), **beats[['at_once', 'live', 'offline']].median().round(2), true=round(p.ef, 2))


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument('--hearts', type=int, default=100)
    ask.add_argument('--out', type=Path, default=Path('echomotion/weights/quick_live.csv'))
    args = ask.parse_args()
    rows = pd.read_csv(args.out).to_dict('records') if args.out.exists() else []
    known, model = {r['seed'] for r in rows}, with_engine(load_model(device='cpu'), 'auto')
    for seed in range(FIRST, FIRST + args.hearts):
        if seed in known: continue
        rows.append(row(seed, model))
        pd.DataFrame(rows).to_csv(args.out, index=False)
        print(rows[-1], flush=True)
    t = pd.DataFrame(rows).dropna()   # without hearts of which both saw no beat
    for name in ('at_once', 'live'):
        print(f'{name}: within 1 point of EF afterwards in {((t[name] - t.offline).abs() <= 1).mean():.0%} of {len(t)} hearts')


if __name__ == '__main__': main()
