"""Puts a trained network into the package, with its log, its figures and its model card.

    echomotion pretrain --out runs/pretrain
    python scripts/ship_weights.py runs/pretrain/run runs/assess

The filters are halved to float16, and what ships is what `echomotion assess` then measures (into runs/assess, five to ten minutes)."""
import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from echomotion.cli import main as echomotion, score_line
from echomotion.data import whole_file
from echomotion.phantom import SIMULATOR
from echomotion.train import load_model, save_weights
from echomotion.unet import count_parameters

CARD = """# Model card: quick

What comes with the package and is used by `echomotion ef` when no other weights are named. **For learning and research; not a medical device.**

- **Network:** U-Net, width {config.width}, depth {config.depth}, {parameters:,} parameters, {config.size} x {config.size} grey pixels in, one logit a pixel out; filters stored as float16.
- **Trained on** simulated hearts only (notebook `05_phantom`, simulator {simulator}): {frames}, `BCEWithLogitsLoss`, Adam,
  {config.epochs} epochs, batches of {config.bs}, highest learning rate {config.lr:g}, augmented. No recording of a patient was trained on;
  the one real cine at hand (`pydicom`'s) was looked at while the simulator was made.
- **Recipe:** `echomotion pretrain` (seed of the hearts {hearts_seed}, of the training {config.seed}). The log is `quick_history.csv`.
- **Normalisation:** mean {model.mean:.4f}, standard deviation {model.std:.4f} of its training pictures.

## Figures

On fresh phantoms that it never met, measured by `echomotion assess` (a row a clip in `quick_phantoms.csv`), against the true masks of every frame and the true 3D volume:

```text
{scores}
```

What one artefact alone costs on otherwise clean pictures (`quick_artefacts.csv`), the six dearest:

```text
{costs}
```

## What it is not

Phantoms are not patients: these figures say how well it does what it was trained for. On the one real cine at hand, which carries no tracing, it follows the
cavity in every frame and its outline hardly moves when gain, contrast, resolution, crop or orientation change (`tests/test_real_cine.py`); that is no measure of
accuracy. It knows apical views. It was not trained on contrast-enhanced, transoesophageal or paediatric pictures. What it knows of pictures without a left ventricle is noise,
shapes and scans beside the heart (`without_lv`); another view of a heart may still get an outline.
"""


def main(run, assessed):
    run, assessed, out = Path(run), Path(assessed), Path(__file__).parent.parent/'echomotion'/'weights'
    model = load_model(run, 'cpu')
    told = json.loads((run/'config.json').read_text())
    save_weights(out/'quick.safetensors', model.net, model.config, model.mean, model.std, model.info, half=True)
    if code := echomotion(['assess', '--out', str(assessed)]): sys.exit(code)
    tables = {k: pd.read_csv(assessed/f'{k}.csv') for k in ('typical', 'hard', 'artefacts')}
    costs = tables['artefacts'].sort_values('cost', ascending=False).head(6).to_string(index=False, float_format='{:.3f}'.format)
    seed = pd.read_csv(run/'frames'/'frames.csv').name[0].split('_')[0].lstrip('abcdefghijklmnopqrstuvwxyz')
    shutil.copyfile(run/'history.csv', out/'quick_history.csv')
    with whole_file(out/'quick_phantoms.csv') as f: pd.concat([tables[k].assign(difficulty=k) for k in ('typical', 'hard')]).to_csv(f, index=False, float_format='%.4f')
    with whole_file(out/'quick_artefacts.csv') as f: tables['artefacts'].to_csv(f, index=False, float_format='%.4f')
    frames = f"{told['frames']['TRAIN']:,} pictures for training, {told['frames']['VAL']:,} to choose the epoch (one heart in 21 is replaced by pictures without a ventricle)"
    with whole_file(out/'quick.md') as f:
        f.write_text(CARD.format(config=model.config, model=model, parameters=count_parameters(model.net), simulator=SIMULATOR, frames=frames, hearts_seed=seed,
                                 scores='\n'.join(score_line(k, tables[k]) for k in ('typical', 'hard')), costs=costs), encoding='utf-8')
    print(f'shipped: {out}/quick.safetensors, {(out/"quick.safetensors").stat().st_size/1e6:.1f} MB')


if __name__ == '__main__': main(*sys.argv[1:3])
