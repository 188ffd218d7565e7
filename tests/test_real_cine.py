"""The shipped weights on the one real recording at hand: the outline and the EF must not depend on the scanner's settings or on how the file was made.

It carries no tracing, so this measures no accuracy."""
from dataclasses import replace

import cv2
import numpy as np
import pytest

from echomotion.data import Clip, example_clip
from echomotion.ef import clip_ef
from echomotion.train import dice, load_model

PER_PIXEL = dict(
    original=lambda x: x, darker=lambda x: x*.7, brighter=lambda x: x*1.5, **{'less contrast': lambda x: x**.75, 'more contrast': lambda x: x**1.3})


def grey(change):
    def apply(clip):
        return replace(clip, frames=(np.clip(change(clip.frames/255), 0, 1)*255).round().astype(np.uint8)), lambda m: m
    return apply


def resized(factor):
    def apply(clip):
        h, w = clip.shape[1:]
        to = lambda a, size: cv2.resize(a, size, interpolation=cv2.INTER_AREA if size[0] < a.shape[1] else cv2.INTER_LINEAR)
        small = np.stack([to(f, (round(w*factor), round(h*factor))) for f in clip.frames])
        return Clip(small, clip.fps), lambda m: np.stack([to(a.astype(np.float32), (w, h)) > .5 for a in m])
    return apply


def cropped(share):
    def apply(clip):
        h, w = clip.shape[1:]
        y, x = int(h*share), int(w*share)
        return Clip(clip.frames[:, y:h - y, x:w - x].copy(), clip.fps), lambda m: np.pad(m, [(0, 0), (y, y), (x, x)])
    return apply


def mirrored(clip): return replace(clip, frames=clip.frames[..., ::-1].copy(), sector=None if clip.sector is None else clip.sector[:, ::-1].copy()), lambda m: m[..., ::-1]


VARIANTS = {**{name: grey(change) for name, change in PER_PIXEL.items()}, 'half the pixels': resized(.5), 'more pixels': resized(1.6), 'cropped': cropped(.05), 'mirrored': mirrored}


@pytest.fixture(scope='module')
def found():
    "name -> masks (in the original's pixels) and EF of each variant"
    clip, model, out = example_clip(), load_model(device='cpu'), {}
    for name, change in VARIANTS.items():
        changed, back = change(clip)
        result = clip_ef(changed, model)
        out[name] = back(result.masks), result.ef
    return out


@pytest.mark.parametrize('name', [n for n in VARIANTS if n != 'original'])
def test_the_outline_stays(found, name):
    scores = dice(found[name][0], found['original'][0])
    assert scores.mean() >= .90, f'{name}: Dice against the outline of the original {scores.mean():.3f}, worst frame {scores.min():.3f}'


@pytest.mark.parametrize('name', [n for n in VARIANTS if n != 'original'])
def test_the_ef_stays(found, name):
    assert abs(found[name][1] - found['original'][1]) <= 5, f"{name}: EF {found[name][1]:.1f}, original {found['original'][1]:.1f}"


def test_the_lv_is_found_in_every_frame(found):
    assert found['original'][0].any((1, 2)).all()
