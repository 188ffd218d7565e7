"""Drawn hearts and stand-in networks that see them: fast, so that a test can stream minutes of them."""
from types import SimpleNamespace

import cv2
import numpy as np

SIZE = 112


class Standin:
    "A network that takes what is bright for the cavity"
    config, info = SimpleNamespace(size=SIZE), {}

    def __init__(self, seconds=0.): self.seconds, self.calls = seconds, 0

    def predict(self, frames, batch_size=32):
        import time
        if self.seconds: time.sleep(self.seconds)
        self.calls += len(frames)
        g = np.stack([cv2.blur(f, (3, 3)) for f in frames]).astype(np.float32)
        top = g.max((1, 2), keepdims=True)
        return np.where(top > 90, 1/(1 + np.exp(-np.clip((g - .62*top)/4, -30, 30))), 0).astype(np.float32)


class BothEnds(Standin):
    "The same with two outlines, wide at end-diastole and narrow at end-systole, and a phase that it guesses badly"

    def predict_ends(self, frames, batch_size=32):
        p = np.clip(Standin.predict(self, frames), 1e-4, 1 - 1e-4)
        logits, size = np.log(p/(1 - p)), (p > .5).sum((1, 2))
        ends = 1/(1 + np.exp(-np.stack([logits + 2, logits - 2], 1)))
        return ends.astype(np.float32), np.clip(.9 - size/1500, .1, .9).astype(np.float32)

    def predict(self, frames, batch_size=32):
        from echomotion.train import at_phase
        return at_phase(*self.predict_ends(frames))


def fan(size=SIZE):
    y, x = np.mgrid[:size, :size]
    return (np.abs(np.arctan2(x - size/2 + .5, y + 2.)) < .7) & (np.hypot(x - size/2, y) < .97*size)


def curve(t, ef=.55, rate=70.):
    "Volume over time, 1 at end-diastole: fast ejection, early filling, a rest, and the atrium's kick"
    x = (np.asarray(t)*rate/60) % 1
    return 1 - ef*np.interp(x, [0, .05, .35, .4, .62, .85, .95, 1], [0, .06, .97, 1, .3, .2, 0, 0])


def picture(volume, rng, size=SIZE, depth=1., gain=1., centre=.55):
    "A bright ventricle of this volume on speckle; `depth` below 1 draws it smaller"
    k = volume**(1/3)
    im = rng.integers(25, 75, (size, size)).astype(np.float32)
    im = cv2.blur(im, (3, 3))
    axes = int(round(16*11*k*depth)), int(round(16*22*k**1.0*depth))
    cv2.ellipse(im, (int(size*16*.5), int(size*16*centre*depth)), axes, 0, 0, 360, 170., cv2.FILLED, cv2.LINE_AA, 4)
    return (np.clip(np.where(fan(size), im, 0)*gain, 0, 255)).astype(np.uint8)


def stream(seconds=4., fps=40., ef=.55, rate=70., seed=0, start=0., **kw):
    "Pairs of picture and time"
    rng = np.random.default_rng(seed)
    for i in range(int(seconds*fps)):
        t = start + i/fps
        yield picture(float(curve(t, ef, rate)), rng, **kw), t
