"""Train the weights that come with the package: on phantoms only, with the `quick` network.

    python scripts/ship_weights.py WORK_FOLDER

Goes on where it stopped. Leaves echomotion/weights/quick.safetensors (float16), the log of the training and a note
of the recipe beside it. About half an hour on two CPU cores."""
import json, shutil, sys
from pathlib import Path

import pandas as pd

from echomotion.data import whole_file
from echomotion.phantom import write_phantom_frames
from echomotion.train import preset_config, save_weights, train_model

RECIPE = dict(typical=dict(TRAIN=1500, VAL=60), hard=dict(TRAIN=700, VAL=40))  # hearts by difficulty
COUNT, SEED, EPOCHS = 6, 4000, 8

def join(work, parts):
    "One frames.csv over the folders of the difficulties"
    table = pd.concat([part.assign(image=name + '/' + part.image, mask=name + '/' + part['mask']) for name, part in parts.items()])
    with whole_file(work/'frames.csv') as f: table.to_csv(f, index=False)

def main(work):
    work = Path(work)
    parts = {name: write_phantom_frames(work/name, n, COUNT, seed=SEED + k, difficulty=name) for k, (name, n) in enumerate(RECIPE.items())}
    join(work, parts)
    config = preset_config('quick', epochs=EPOCHS, flip=.1, seed=0)
    model = train_model(work, work/'run', config)
    target = Path(__file__).parent.parent/'echomotion'/'weights'
    target.mkdir(exist_ok=True)
    info = dict(recipe=dict(hearts=RECIPE, frames_each=COUNT, seed=SEED), data='phantoms only, true masks')
    save_weights(target/'quick.safetensors', model.net, model.config, model.mean, model.std, info, half=True)
    shutil.copy(work/'run'/'history.csv', target/'quick_history.csv')
    print(target/'quick.safetensors', (target/'quick.safetensors').stat().st_size//1024, 'KiB', json.dumps(info))

if __name__ == '__main__': main(sys.argv[1])
