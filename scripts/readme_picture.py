"""Draws the picture of the README from what `make demo` left.

    python scripts/readme_picture.py runs/demo

The real cine with the outline that the demo's network found, its curve, and the measured against the true EF of the
simulated TEST clips."""
import sys
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt

from echomotion.data import example_clip, whole_file
from echomotion.ef import clip_ef, overlay, plot_ef_curve
from echomotion.evaluate import plot_scatter, plot_style, read_predictions
from echomotion.train import load_model

def main(run):
    run, clip = Path(run), example_clip()
    result, table = clip_ef(clip, load_model(run/'weights.safetensors')), read_predictions(run)
    table = table[table.split == 'TEST']
    brighter = (255*(clip.frames/255)**.6).astype('uint8')  # for small pictures on a white page
    with plot_style():
        fig, axes = plt.subplots(1, 4, figsize=(13, 3), width_ratios=[1, 1, 2.1, 1.2])
        cut = slice(0, int(clip.shape[1]*.82)), slice(int(clip.shape[2]*.12), int(clip.shape[2]*.88))
        for ax, name, frame in zip(axes, ('end-diastole', 'end-systole'), (result.ed, result.es)):
            ax.imshow(overlay(brighter[frame][cut], result.masks[frame][cut], scale=3)); ax.set_title(f'real cine: {name}'); ax.axis('off')
        plot_ef_curve(result, axes[2]); axes[2].set_title('')
        plot_scatter(table.ef_true, table.ef, axes[3]); axes[3].set_title(f'{len(table)} simulated clips')
        fig.tight_layout()
        target = Path(__file__).parent.parent/'nbs'/'images'/'demo.png'
        with whole_file(target) as f: fig.savefig(f, dpi=80)
    print(target)

if __name__ == '__main__': main(sys.argv[1])
