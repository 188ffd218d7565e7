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
    # the network has met no mirrored heart, and says so (below); not knowing the septum's side it does not move the outline to it
    least = .80 if name == 'mirrored' else .90
    assert scores.mean() >= least, f'{name}: Dice against the outline of the original {scores.mean():.3f}, worst frame {scores.min():.3f}'


def test_a_mirrored_heart_is_doubted():
    said = lambda clip: any('mirrored' in d for d in clip_ef(clip).doubts)
    assert said(mirrored(example_clip())[0]) and not said(example_clip())


@pytest.mark.parametrize('name', [n for n in VARIANTS if n != 'original'])
def test_the_ef_stays(found, name):
    assert abs(found[name][1] - found['original'][1]) <= 5, f"{name}: EF {found[name][1]:.1f}, original {found['original'][1]:.1f}"


def test_the_lv_is_found_in_every_frame(found):
    assert found['original'][0].any((1, 2)).all()


def white(rng): return rng.integers(0, 256, (40, 112, 112))


def clouds(rng):
    frames = np.stack([cv2.GaussianBlur(f, (0, 0), 4) for f in rng.normal(size=(40, 112, 112))])
    return 255*(frames - frames.min())/np.ptp(frames)


def ball(rng):
    "A bright disc that grows and shrinks as a ventricle does"
    y, x = np.mgrid[-1:1:112j, -1:1:112j]
    inside = np.stack([(x/.8)**2 + y**2 < (.35 + .12*np.cos(2*np.pi*t/30))**2 for t in range(40)])
    return np.clip(np.where(inside, 200, 40) + rng.normal(0, 10, inside.shape), 0, 255)


@pytest.mark.parametrize('kind', [white, clouds, ball], ids=lambda f: f.__name__)
@pytest.mark.parametrize('seed', [0, 1])
def test_what_is_no_heart_has_no_ef(kind, seed):
    "The weights that ship find no ventricle where there is none, and the result says so instead of a number"
    result = clip_ef(Clip(kind(np.random.default_rng(seed)).astype(np.uint8), fps=30.))
    assert np.isnan(result.ef) and any('no LV' in d for d in result.doubts)
