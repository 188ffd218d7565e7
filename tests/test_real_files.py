"""What real files bring, kind by kind: each is made small here, with the right value known."""
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import echomotion.data as data
from echomotion.data import Clip, as_mask, fan_aspect, read_clip, read_echonet, read_image, tracing_to_mask
from echomotion.ef import clean_masks, clip_ef, disk_volume, lv_area, measure_ef, segment_clip
from echomotion.phantom import phantom_clip
from echomotion.train import load_model

GREEN, GREY = (0, 220, 0), (200, 200, 200)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        yield


@pytest.fixture(scope='module')
def model(): return load_model(device='cpu')


@pytest.fixture(scope='module')
def heart(): return phantom_clip(505, size=200, n_frames=30)


def some_frames(n=12, h=40, w=60, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([cv2.GaussianBlur(rng.integers(0, 256, (h, w)).astype(np.uint8), (0, 0), 2) for _ in range(n)])


def write_dicom(path, frames, syntax=ExplicitVRLittleEndian, pixel_data=None, **attributes):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(syntax), '1.2.840.10008.5.1.4.1.1.3.1', '1.2.3'
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    bits = frames.dtype.itemsize*8
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *frames.shape[1:3], 3 if frames.ndim == 4 else 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = 'RGB' if frames.ndim == 4 else 'MONOCHROME2', 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.NumberOfFrames = bits, bits, bits - 1, len(frames)
    if frames.ndim == 4: ds.PlanarConfiguration = 0
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PixelData = meta.MediaStorageSOPClassUID, '1.2.3', pixel_data or frames.tobytes()
    for key, value in attributes.items(): setattr(ds, key, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def region(box, mm=(.8, .8)):
    r = pydicom.Dataset()
    r.RegionSpatialFormat, r.RegionDataType, r.PhysicalUnitsXDirection, r.PhysicalUnitsYDirection = 1, 1, 3, 3
    r.RegionLocationMinX0, r.RegionLocationMinY0, r.RegionLocationMaxX1, r.RegionLocationMaxY1 = map(int, box)
    r.PhysicalDeltaY, r.PhysicalDeltaX = mm[0]/10, mm[1]/10
    return r


# ---------------------------------------------------------------- A1: pixels that are not square
@pytest.mark.parametrize('aspect', [.5, 2, 4/3, 64/45])
def test_the_network_sees_square_millimetres(heart, model, aspect):
    frames, mm = heart.clip.frames, heart.clip.pixel_mm
    h, w = frames.shape[1:]
    size = (w, round(h/aspect)) if aspect > 1 else (round(w*aspect), h)
    small = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])
    px = mm[0]*h/size[1], mm[1]*w/size[0]
    ef = lambda a, px: measure_ef(clean_masks(segment_clip(Clip(a, 30., pixel_mm=px), model)), 30., px).ef
    assert segment_clip(Clip(small[:1], 30., pixel_mm=px), model).shape == (1, *small.shape[1:])
    assert abs(ef(small, px) - ef(frames, mm)) < 1.5


def test_aspect_of_a_dicom_without_sizes(tmp_path):
    "PixelAspectRatio is height to width: pictures are drawn out to square pixels"
    path = write_dicom(tmp_path/'a.dcm', some_frames(), FrameTime=33, PixelAspectRatio=[2, 1])
    clip = read_clip(path, sector=False)
    assert clip.shape == (12, 80, 60) and any('2 times as high as wide' in n for n in clip.notes)


def test_deltas_of_a_region_may_differ(tmp_path, heart):
    frames = heart.clip.frames
    path = write_dicom(tmp_path/'a.dcm', frames, FrameTime=33, SequenceOfUltrasoundRegions=[region((0, 0, 199, 199), (.5, 1.))])
    assert read_clip(path).pixel_mm == pytest.approx((.5, 1.))


def squeezed(frames, aspect):
    h, w = frames.shape[1:]
    return np.stack([cv2.resize(f, (w, round(h/aspect)) if aspect > 1 else (round(w*aspect), h), interpolation=cv2.INTER_AREA) for f in frames])


def test_a_squeezed_fan_is_a_doubt(model):
    frames = data.example_clip().frames
    assert fan_aspect(frames) == 1 and fan_aspect(squeezed(frames, .5)) < .7 and fan_aspect(squeezed(frames, 2)) > 1.4
    said = clip_ef(Clip(squeezed(frames, 2), 30.), model).doubts
    assert any('squeezed' in d and 'pixel_mm' in d for d in said), said
    assert not any('squeezed' in d for d in clip_ef(Clip(squeezed(frames, 2), 30., pixel_mm=(2., 1.)), model).doubts), 'known, so no doubt'


# ---------------------------------------------------------------- A2: what is not the fan
def speckle(kind, side=300, frames=20):
    "A sector of one kind of probe full of speckle, and where it is"
    rng, c = np.random.default_rng(1), side/2
    y, x = np.mgrid[:side, :side].astype(float)
    def ring(top, near, far, half):
        r, a = np.hypot(x - c, y - top), np.arctan2(x - c, y - top)
        return (r >= near) & (r <= far) & (abs(a) <= np.radians(half))
    inside = dict(phased=ring(2, 0, side - 8, 40), curved=ring(-100, 108, side + 80, 30), linear=(abs(x - c) < side/3) & (y > 4) & (y < side - 10),
                  trapezoid=(abs(np.arctan2(x - c, y + 200)) < .3) & (y > 4) & (y < side - 10), sides=ring(-4, 0, side - 4, 45) & (abs(x - c) < .36*side),
                  bottom=ring(-4, 0, 1.15*side, 38) & (y < side - 20))[kind]
    return np.stack([np.where(inside, np.clip(rng.rayleigh(50, y.shape), 3, 255), 0) for _ in range(frames)]).astype(np.uint8), inside


def trace(pictures, y, colour, thick, wave):
    "A trace that runs across the screen as a scanner draws it, with a gap before the pen"
    w = pictures.shape[2]
    x = np.arange(20, w - 20)
    line = np.stack([x, np.rint(y - wave(x))], 1).astype(np.int32)
    for t, p in enumerate(pictures):
        pen = len(x)*(t + 1)//len(pictures)
        for part in (line[:pen], line[pen + 10:]):
            if len(part) > 1: cv2.polylines(p, [part], False, colour, thick)


def ecg(x): return 22*np.exp(-((x % 90 - 40)/3)**2)
def breath(x): return 9*np.sin(x/60)


def on_screen(frames, inside, h=420, w=560, at=(20, 80), clutter=()):
    pictures, where = np.zeros((len(frames), h, w, 3), np.uint8), np.zeros((h, w), bool)
    y, x = at
    pictures[:, y:y + frames.shape[1], x:x + frames.shape[2]] = frames[..., None]
    where[y:y + frames.shape[1], x:x + frames.shape[2]] = inside
    foot = np.flatnonzero(where.any(1))[-1]
    for kind in clutter:
        if kind == 'crossing': trace(pictures, foot - 6, GREY, 3, ecg)
        if kind == 'green': trace(pictures, foot + 8, GREEN, 2, ecg)
        if kind == 'near': trace(pictures, foot + 14, GREY, 3, ecg)
        if kind == 'breath': trace(pictures, foot + 14, GREY, 2, breath)
        if kind == 'bar': pictures[:, 60:260, w - 30:w - 18] = np.linspace(255, 0, 200).astype(np.uint8)[:, None, None]
        if kind == 'thumb': pictures[:, h - 65:h - 5, w - 65:w - 5] = np.stack([cv2.resize(f, (60, 60)) for f in frames])[..., None]
        if kind == 'clock':
            for t, p in enumerate(pictures): cv2.putText(p, f'12:00:{t:02d}.{t*33 % 1000:03d}', (w - 170, h - 8), 0, .6, GREY, 1)
    return pictures, where


def side(mask):
    t, b, l, r = data._box(mask)
    return max(b - t, r - l)


@pytest.mark.parametrize('kind', ['phased', 'curved', 'linear', 'trapezoid', 'sides', 'bottom'])
@pytest.mark.parametrize('clutter', [('crossing', 'clock'), ('near', 'thumb', 'bar'), ('green', 'breath')], ids='+'.join)
def test_the_fan_of_any_probe(kind, clutter):
    pictures, where = on_screen(*speckle(kind), clutter=clutter)
    frames, coloured = data._to_grey(pictures, 'screen')
    fan = data.fit_fan(frames, coloured)
    found = fan.mask(where.shape)
    assert abs(side(found)/side(where) - 1) < .03 and (found & where).sum()/(found | where).sum() > .95 and fan.fit > .85, fan


@pytest.mark.parametrize('clutter', [(), ('crossing', 'clock'), ('near', 'breath', 'thumb')], ids=lambda c: '+'.join(c) or 'plain')
def test_a_sound_region_in_the_header_comes_first(tmp_path, heart, clutter):
    pictures, where = on_screen(heart.clip.frames, heart.clip.sector, at=(60, 120), clutter=clutter)
    t, b, l, r = data._box(where)
    clip = read_clip(write_dicom(tmp_path/'a.dcm', pictures, FrameTime=33, SequenceOfUltrasoundRegions=[region((l, t, r, b))]))
    assert clip.pixel_mm == pytest.approx((.8, .8)) and abs(clip.shape[1]/max(b - t, r - l) - 1) < .03, clip.notes


@pytest.mark.parametrize('clutter', [('crossing',), ('near', 'breath', 'clock'), ('green', 'thumb', 'bar')], ids='+'.join)
def test_the_ef_stays_on_a_busy_screen(heart, model, clutter):
    efs = []
    for c in ((), clutter):
        pictures, _ = on_screen(heart.clip.frames, heart.clip.sector, at=(60, 120), clutter=c)
        efs.append(clip_ef(read_clip(pictures, fps=30., sector=True), model).ef)
    assert abs(efs[1] - efs[0]) < 2, efs


def test_two_pictures_side_by_side_are_asked_about(tmp_path):
    frames, inside = speckle('phased', 240)
    pictures, where = on_screen(frames, inside, h=300, w=560, at=(20, 20))
    pictures[:, 20:260, 300:540] = frames[..., None]
    path = write_dicom(tmp_path/'two.dcm', pictures, FrameTime=33)
    with pytest.raises(ValueError, match="two.dcm.*side by side.*sector='left'"): read_clip(path)
    for which in ('left', 'right'):
        note = next(n for n in read_clip(path, sector=which).notes if 'columns' in n)
        first = int(note.split('columns ')[1].split()[0])
        assert (first < 280) == (which == 'left'), note
    ds = [region((20, 20, 260, 260)), region((300, 20, 540, 260))]
    with pytest.raises(ValueError, match='describes 2 pictures'): read_clip(write_dicom(tmp_path/'b.dcm', pictures, FrameTime=33, SequenceOfUltrasoundRegions=ds))


# ---------------------------------------------------------------- A3: label maps
@pytest.mark.parametrize('use', [lv_area, disk_volume, lambda m: measure_ef(m[None]), lambda m: clean_masks(m[None]), data.mask_to_tracing, as_mask])
def test_a_label_map_is_no_mask(use):
    labels = np.zeros((60, 60), np.uint8)
    labels[10:40, 20:40], labels[8:10, 18:42], labels[42:55, 22:38] = 1, 2, 3
    with pytest.raises(ValueError, match='0, 1, 2, 3: a label map'): use(labels)
    use(labels == 1)
    use((labels == 1).astype(np.uint8)*255)


# ---------------------------------------------------------------- B4, B5: depth and pages
@pytest.mark.parametrize('bits', [10, 12, 16])
@pytest.mark.parametrize('kind', ['png', 'tif', 'stack'])
def test_deep_pictures_keep_their_levels(tmp_path, bits, kind):
    deep = np.stack([cv2.GaussianBlur(f, (0, 0), 3) for f in np.random.default_rng(0).uniform(0, 1, (8, 40, 60))])
    deep = ((deep - deep.min())/np.ptp(deep)*(2**bits - 1)).astype(np.uint16)
    if kind == 'stack': cv2.imwritemulti(str(tmp_path/'a.tif'), list(deep))
    else: [cv2.imwrite(str(tmp_path/f'{i}.{kind}'), p) for i, p in enumerate(deep)]
    clip = read_clip(tmp_path/'a.tif' if kind == 'stack' else tmp_path, sector=False)
    assert len(clip) == 8 and len(np.unique(clip.frames)) > 100 and np.abs(clip.frames - deep/deep.max()*255).max() <= 1


def test_stacks_of_pages(tmp_path):
    frames = some_frames(9)
    cv2.imwritemulti(str(tmp_path/'one.tif'), list(frames))
    assert (read_clip(tmp_path/'one.tif', sector=False).frames == frames).all()
    assert (read_clip(tmp_path, sector=False).frames == frames).all(), 'a folder with one stack'
    cv2.imwritemulti(str(tmp_path/'two.tif'), list(frames))
    with pytest.raises(ValueError, match='2 recordings of several pages'): read_clip(tmp_path)


# ---------------------------------------------------------------- B6: axes
@pytest.mark.parametrize('change', [lambda a: np.repeat(a[:, None], 3, 1), lambda a: a[:, None], lambda a: a[None], lambda a: np.repeat(a[None], 3, 0), lambda a: np.repeat(a[..., None], 3, -1)],
                         ids=['T3HW', 'T1HW', '1THW', '3THW', 'THW3'])
def test_orders_of_axes_with_one_reading(change):
    torch = pytest.importorskip('torch')
    frames = some_frames(20)
    assert (read_clip(change(frames)).frames == frames).all()
    assert (read_clip(torch.from_numpy(np.ascontiguousarray(change(frames)))).frames == frames).all()


@pytest.mark.parametrize('shape', [(112, 112, 30), (480, 640, 30), (3, 3, 40, 60)])
def test_orders_of_axes_that_cannot_be_told(shape):
    a = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    with pytest.raises(ValueError, match='transpose|moveaxis'): read_clip(a)
    if len(shape) == 3: assert read_clip(a.transpose(2, 0, 1)).shape == (30, *shape[:2])   # the remedy


# ---------------------------------------------------------------- B7: time
FOUR = some_frames(4)


@pytest.mark.parametrize('attributes, fps, said', [
    (dict(FrameTime=20), 50, ''),
    (dict(FrameTime=20, FrameTimeVector=[0, 40, 40, 40], FrameIncrementPointer=0x00181065), 25, 'FrameTime 50'),
    (dict(FrameTime=20, FrameTimeVector=[0, 40, 40, 40], FrameIncrementPointer=0x00181063), 50, 'FrameTimeVector 25'),
    (dict(RecommendedDisplayFrameRate=15), np.nan, 'rate at which to show it'),
    (dict(RecommendedDisplayFrameRate=15, FrameTime=20), 50, ''),
    (dict(FrameTime=20, CineRate=30), 50, 'CineRate 30'),
    (dict(FrameTime=0, CineRate=30), 30, ''), ])
def test_rates_of_a_dicom(tmp_path, attributes, fps, said):
    clip = read_clip(write_dicom(tmp_path/'a.dcm', FOUR, **attributes), sector=False)
    assert clip.fps == pytest.approx(fps, rel=.01, nan_ok=True) and any(said in n for n in ['', *clip.notes])


def test_a_pause_in_the_frame_time_vector(tmp_path):
    clip = read_clip(write_dicom(tmp_path/'a.dcm', FOUR, FrameTimeVector=[0, 20, 200, 20], FrameIncrementPointer=0x00181065), sector=False)
    assert clip.times == pytest.approx([0, .02, .22, .24]) and any('unevenly' in n for n in clip.notes)


def mp4_box(content, path, new):
    "The bytes of an MP4 with the content of one box replaced, the sizes of those around it corrected"
    start, end, outer = 0, len(content), []
    for kind in path:
        while content[start + 4:start + 8] != kind: start += int.from_bytes(content[start:start + 4], 'big'); assert start < end, kind
        end = start + int.from_bytes(content[start:start + 4], 'big')
        outer.append(start)
        start += 8
    at, size = outer[-1], end - outer[-1]
    out = bytearray(content[:at] + struct.pack('>I', len(new) + 8) + path[-1] + new + content[end:])
    for o in outer[:-1]: out[o:o + 4] = (int.from_bytes(out[o:o + 4], 'big') + len(new) + 8 - size).to_bytes(4, 'big')
    return bytes(out)


def write_mp4(path, frames, fps=30):
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, frames.shape[:0:-1])
    for f in frames: out.write(cv2.cvtColor(f, cv2.COLOR_GRAY2BGR))
    out.release()
    return path


TRACK = (b'moov', b'trak')


def test_time_stamps_of_a_video_count(tmp_path):
    path = write_mp4(tmp_path/'a.mp4', some_frames(40, 64, 96))
    whole = path.read_bytes()
    whole = mp4_box(whole, (*TRACK, b'mdia', b'minf', b'stbl', b'stts'), struct.pack('>8I', 0, 3, 20, 512, 1, 2560, 19, 512))   # one gap of five frames
    path.write_bytes(mp4_box(whole, (*TRACK, b'edts', b'elst'), struct.pack('>IIIiI', 0, 1, 1467, 0, 65536)))
    clip = read_clip(path, sector=False)
    assert len(clip) == 40 and clip.times is not None and clip.times[21] - clip.times[20] == pytest.approx(5/30, abs=.002) and clip.times[-1] == pytest.approx(43/30, abs=.01)


@pytest.mark.parametrize('sar, size', [((2, 1), (64, 192)), ((1, 2), (128, 96)), ((64, 45), (64, 137)), ((1, 1), (64, 96))])
def test_the_sample_aspect_ratio_of_a_video(tmp_path, sar, size):
    "A box that tells width to height of a pixel is added to the track: pictures are drawn out to square pixels"
    path = write_mp4(tmp_path/'a.mp4', some_frames(12, 64, 96))
    plain, whole = read_clip(path, sector=False), path.read_bytes()
    at = whole.find(b'stsd')
    old = whole[at + 4:at - 4 + int.from_bytes(whole[at - 4:at], 'big')]
    entry = int.from_bytes(old[8:12], 'big')
    new = old[:8] + struct.pack('>I', entry + 16) + old[12:8 + entry] + struct.pack('>I4sII', 16, b'pasp', *sar) + old[8 + entry:]
    path.write_bytes(mp4_box(whole, (*TRACK, b'mdia', b'minf', b'stbl', b'stsd'), new))
    clip = read_clip(path, sector=False)
    assert clip.shape == (12, *size) and any('times as high as wide' in n for n in clip.notes) == (sar != (1, 1))
    back = np.stack([cv2.resize(f, (96, 64), interpolation=cv2.INTER_AREA) for f in clip.frames])
    assert np.abs(back.astype(int) - plain.frames).mean() < 3


def test_an_edit_list_is_no_damage(tmp_path):
    path = write_mp4(tmp_path/'a.mp4', some_frames(40, 64, 96))
    path.write_bytes(mp4_box(path.read_bytes(), (*TRACK, b'edts', b'elst'), struct.pack('>IIIiI', 0, 1, 667, 0, 65536)))
    clip = read_clip(path, sector=False)
    assert 20 <= len(clip) <= 21 and not any('damaged' in n or 'cut short' in n for n in clip.notes)


def test_the_ef_of_uneven_frames_is_that_of_true_times():
    "A beat of one second at 50 frames a second, of which the filling was recorded at 10: EF and heart rate stay"
    y, x = np.mgrid[:80, :80] - 40.
    t = np.concatenate([np.concatenate([np.arange(0, .5, .02), np.arange(.5, 1, .1)]) + k for k in range(4)])
    size = lambda t: 1 - .18*(1 - np.cos(2*np.pi*t))
    masks = np.stack([(x/(11*s))**2 + (y/(26*s))**2 < 1 for s in size(t)])
    from echomotion.ef import _on_true_times
    r = _on_true_times(masks, Clip(masks.astype(np.uint8)*255, (len(t) - 1)/t[-1], times=t))
    even = np.arange(0, 4, .02)
    right = measure_ef(np.stack([(x/(11*s))**2 + (y/(26*s))**2 < 1 for s in size(even)]), 50.)
    assert abs(r.ef - right.ef) < 2 and r.heart_rate == pytest.approx(60, rel=.05) and len(r.area) == len(t) and set(r.beats.es) <= set(range(len(t)))


def test_a_rate_of_zero_is_unknown(tmp_path):
    path = data.write_avi(tmp_path/'a.avi', some_frames(12))
    whole = bytearray(path.read_bytes())
    a, s = whole.find(b'avih'), whole.find(b'vids')
    whole[a + 8:a + 12] = whole[s + 20:s + 24] = whole[s + 24:s + 28] = bytes(4)
    path.write_bytes(whole)
    clip = read_clip(path, sector=False)
    assert np.isnan(clip.fps) and any('frame rate is unknown' in n for n in clip.notes)


@pytest.mark.parametrize('suffix', ['gif', 'webp', 'png'])
def test_animations_by_their_total_time(tmp_path, suffix):
    ims = [Image.fromarray(f) for f in some_frames(12)]
    ims[0].save(tmp_path/f'a.{suffix}', save_all=True, append_images=ims[1:], duration=[30, 30, 40]*4, lossless=True)
    clip = read_clip(tmp_path/f'a.{suffix}', sector=False)
    assert len(clip) == 12 and clip.fps == pytest.approx(30, rel=.02) and clip.times is None
    ims[0].save(tmp_path/f'b.{suffix}', save_all=True, append_images=ims[1:], duration=[20]*5 + [140] + [20]*6, lossless=True)
    clip = read_clip(tmp_path/f'b.{suffix}', sector=False)
    assert len(clip) == 18 and clip.fps == pytest.approx(50, rel=.02), 'the frame that is held stands for seven'


# ---------------------------------------------------------------- B8: cut files
@pytest.mark.parametrize('suffix, code', [('avi', 'MJPG'), ('mkv', 'mp4v')])
@pytest.mark.parametrize('share', [.8, .95, .99])
def test_a_cut_video_says_so(tmp_path, suffix, code, share):
    path, frames = tmp_path/f'a.{suffix}', some_frames(80, 64, 96)
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 30, (96, 64))
    for f in frames: out.write(cv2.cvtColor(f, cv2.COLOR_GRAY2BGR))
    out.release()
    assert len(read_clip(path, sector=False)) == 80 and not any('cut' in n for n in read_clip(path, sector=False).notes)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share*len(whole))])
    clip = read_clip(path, sector=False)
    assert len(clip) < 80 and any('cut short' in n and 'of 80 frames' in n for n in clip.notes)


# ---------------------------------------------------------------- B9: PixelSpacing
def test_pixel_spacing_without_a_region(tmp_path, heart):
    clip = read_clip(write_dicom(tmp_path/'a.dcm', heart.clip.frames, FrameTime=33, PixelSpacing=[.4, .3]))
    assert clip.pixel_mm == (.4, .3) and any('PixelSpacing is used' in n for n in clip.notes)


# ---------------------------------------------------------------- C10, C11, C15: DICOM
@pytest.mark.parametrize('syntax', ['1.2.840.10008.1.2.4.100', '1.2.840.10008.1.2.4.102'])
def test_a_video_inside_a_dicom(tmp_path, syntax):
    from pydicom.encaps import encapsulate
    frames = some_frames(15, 64, 96)
    stream = write_mp4(tmp_path/'a.mp4', frames).read_bytes()
    stream += b'\0'*(len(stream) % 2)
    path = write_dicom(tmp_path/'a.dcm', np.repeat(frames[..., None], 3, -1), syntax, encapsulate([stream]), FrameTime=20)
    clip = read_clip(path, sector=False)
    assert len(clip) == 15 and clip.fps == 50 and np.abs(clip.frames.astype(int) - frames).mean() < 6


@pytest.mark.parametrize('name, syntax', [('disc.m2v', '1.2.840.10008.1.2.4.100'), ('disc.h264', '1.2.840.10008.1.2.4.102'),
                                          ('disc.hevc', '1.2.840.10008.1.2.4.107')])
def test_bare_streams_of_other_encoders(tmp_path, name, syntax):
    "As scanners write them: the encoder's stream without a container. In tests/streams: a dark disc that grows by 2 rows a frame"
    from pydicom.encaps import encapsulate
    stream = (Path(__file__).parent/'streams'/name).read_bytes()
    y, x = np.mgrid[:64, :96]
    drawn = np.stack([np.where(((x - 48)/24)**2 + ((y - 32)/(14 + 2*t))**2 < 1, 40, 170) for t in range(8)]).astype(np.uint8)
    path = write_dicom(tmp_path/'a.dcm', np.repeat(drawn[..., None], 3, -1), syntax, encapsulate([stream + b'\0'*(len(stream) % 2)]), FrameTime=40)
    clip = read_clip(path, sector=False)
    assert len(clip) == 8 and clip.fps == 25 and np.abs(clip.frames.astype(float) - drawn).mean() < 6


def test_a_coding_that_needs_a_plugin_names_it(tmp_path):
    from pydicom.encaps import encapsulate
    path = write_dicom(tmp_path/'a.dcm', FOUR, '1.2.840.10008.1.2.4.201', encapsulate([b'\xff\x4f\xff\x51' + bytes(20)]*4), FrameTime=20)
    with pytest.raises(ValueError, match='(?s)a.dcm.*pip install pylibjpeg pylibjpeg-openjpeg'): read_clip(path)


def test_a_dicom_without_its_preamble(tmp_path):
    path = write_dicom(tmp_path/'a.dcm', FOUR, FrameTime=20)
    ds = pydicom.dcmread(path)
    ds.preamble, ds.file_meta = None, FileMetaDataset()
    ds.save_as(tmp_path/'b.dcm', implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path/'b.dcm').read_bytes()[128:132] != b'DICM'
    assert (read_clip(tmp_path/'b.dcm', sector=False).frames == FOUR).all()


def test_one_dicom_a_frame(tmp_path):
    frames = some_frames(12)
    for i in np.random.default_rng(0).permutation(12):
        write_dicom(tmp_path/f'IM{(7*i) % 12:03d}', frames[i:i + 1], FrameTime=20, InstanceNumber=int(i) + 1, SeriesInstanceUID='1.2.3.4')
    clip = read_clip(tmp_path, sector=False)
    assert (clip.frames == frames).all() and clip.fps == 50
    for p in list(tmp_path.iterdir()):
        ds = pydicom.dcmread(p)
        ds.TemporalPositionIdentifier = ds.InstanceNumber
        del ds.InstanceNumber
        ds.save_as(p)
    assert (read_clip(tmp_path, sector=False).frames == frames).all()


def test_a_folder_of_two_cines_names_them(tmp_path):
    for i in (1, 2): write_dicom(tmp_path/f'cine{i}.dcm', FOUR, FrameTime=20, SeriesInstanceUID=f'1.2.{i}')
    with pytest.raises(ValueError, match='2 recordings.*cine1.dcm'): read_clip(tmp_path)


def test_a_dicomdir(tmp_path):
    from pydicom.fileset import FileSet
    path = write_dicom(tmp_path/'a.dcm', FOUR, FrameTime=20, PatientID='1', PatientName='A', StudyInstanceUID='1.2.5', SeriesInstanceUID='1.2.6', StudyDate='20200101', StudyTime='101010', StudyID='1',
                       SeriesNumber=1, Modality='US', InstanceNumber=1)
    files = FileSet()
    files.add(path)
    files.write(tmp_path/'set')
    for source in (tmp_path/'set', tmp_path/'set'/'DICOMDIR'): assert (read_clip(source, sector=False).frames == FOUR).all()


@pytest.mark.parametrize('label', ['YBR_FULL_422', 'YBR_FULL'])
def test_rgb_called_ybr(tmp_path, label):
    rgb = np.repeat(some_frames(6)[..., None], 3, -1)
    clip = read_clip(write_dicom(tmp_path/'a.dcm', rgb, FrameTime=20, PhotometricInterpretation=label), sector=False)
    assert np.abs(clip.frames.astype(int) - rgb[..., 0]).max() <= 1
    ybr = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] for f in rgb])
    clip = read_clip(write_dicom(tmp_path/'b.dcm', ybr, FrameTime=20, PhotometricInterpretation=label), sector=False)
    assert np.abs(clip.frames.astype(int) - rgb[..., 0]).max() <= 2, 'and what really is YBR stays so'


# ---------------------------------------------------------------- C12, C13: folders
def ellipse(k):
    a = np.linspace(0, 2*np.pi, 31)[:-1]
    return np.stack([56 + 14*k*np.cos(a), 50 + 28*k*np.sin(a)], 1)


def test_echonet_pediatric(tmp_path):
    rows, points = [], []
    for i in range(10):
        data.write_avi(tmp_path/'A4C'/'Videos'/f'CR{i}.avi', some_frames(20, 112, 112, i))
        rows.append(dict(FileName=f'CR{i}.avi', EF=60., Sex='F', Age=9, Weight=30., Height=130., Split=i))
        for frame, k in ((3, .8), (12, 1.)): points += [(f'CR{i}.avi', *p, frame) for p in ellipse(k)]
    pd.DataFrame(rows).to_csv(tmp_path/'A4C'/'FileList.csv', index=False)
    pd.DataFrame(points, columns=['FileName', 'X', 'Y', 'Frame']).to_csv(tmp_path/'A4C'/'VolumeTracings.csv', index=False)
    echonet = read_echonet(tmp_path/'A4C')
    assert len(echonet) == len(echonet.tracings) == 10 and [len(echonet.names(s)) for s in ('TRAIN', 'VAL', 'TEST')] == [8, 1, 1]
    assert echonet.ed_es('CR4') == (12, 3)
    assert (tracing_to_mask(echonet.tracings['CR4'][12], (112, 112)) == data.polygon_mask(ellipse(1.), (112, 112))).all()
    with pytest.raises(FileNotFoundError, match='A4C: pass that folder'): read_echonet(tmp_path)


@pytest.mark.parametrize('suffix', ['AVI', 'mp4', 'mov'])
def test_suffixes_and_semicolons(tmp_path, suffix):
    (tmp_path/'Videos').mkdir()
    if suffix == 'AVI': data.write_avi(tmp_path/'x.avi', some_frames(12, 112, 112)).rename(tmp_path/'Videos'/'one.AVI')
    else: write_mp4(tmp_path/'Videos'/f'one.{suffix}', some_frames(12, 112, 112))
    (tmp_path/'FileList.csv').write_text('FileName;EF;ESV;EDV;FPS;Split\none;55,5;40,25;90;49,5;TRAIN\n')
    echonet = read_echonet(tmp_path)
    assert list(echonet.clips.index) == ['one'] and echonet.clips.EF['one'] == 55.5 and echonet.clips.ESV['one'] == 40.25
    assert echonet.clip('one').fps == 49.5 and len(echonet.clip('one')) == 12


# ---------------------------------------------------------------- C14: NIfTI and MetaImage
@pytest.mark.parametrize('suffix', ['nii', 'nii.gz', 'mhd', 'mha'])
def test_medical_images(tmp_path, suffix):
    import SimpleITK as sitk
    frames = some_frames(9)
    image = sitk.GetImageFromArray(frames)
    image.SetSpacing((.308, .154, 1.))
    sitk.WriteImage(image, str(tmp_path/f'a.{suffix}'))
    clip = read_clip(tmp_path/f'a.{suffix}', sector=False)
    assert (clip.frames == frames).all() and clip.pixel_mm == (.154, .308) and clip.name == 'a'
    path = tmp_path/('a.raw' if suffix == 'mhd' else f'a.{suffix}')
    path.write_bytes(path.read_bytes()[:path.stat().st_size*2//3])
    with pytest.raises(ValueError, match=r'a\.'): read_image(tmp_path/f'a.{suffix}')


def test_a_label_map_is_no_clip(tmp_path):
    import SimpleITK as sitk
    sitk.WriteImage(sitk.GetImageFromArray((some_frames(5)//64).astype(np.uint8)), str(tmp_path/'gt.nii.gz'))
    with pytest.raises(ValueError, match='a label map, not pictures'): read_clip(tmp_path/'gt.nii.gz')
    assert read_image(tmp_path/'gt.nii.gz', labels=True)[0].max() <= 3


@pytest.mark.parametrize('suffix', ['nii', 'nii.gz'])
def test_a_scaled_nifti_is_whole(tmp_path, suffix):
    "Its header has a slope, so SimpleITK reads as float what is stored in 16 bits"
    import gzip
    import SimpleITK as sitk
    deep = some_frames(9).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(deep), str(tmp_path/'a.nii'))
    whole = bytearray((tmp_path/'a.nii').read_bytes())
    whole[112:120] = struct.pack('<2f', .5, 0)
    (tmp_path/f'b.{suffix}').write_bytes(whole if suffix == 'nii' else gzip.compress(whole))
    assert (read_image(tmp_path/f'b.{suffix}')[0] == np.rint(deep/2)).all()


# ---------------------------------------------------------------- damaged files
@pytest.mark.parametrize('kind', ['dcm', 'nii', 'nii.gz', 'mha', 'mhd'])
@pytest.mark.parametrize('n', [1, 795, 2321])
def test_bytes_too_many_are_said(tmp_path, kind, n):
    "Bytes that were put in shift every picture after them: the header's length no longer fits"
    import gzip
    import SimpleITK as sitk
    frames, path = some_frames(30, 96, 96), tmp_path/f'a.{kind}'
    if kind == 'dcm': write_dicom(path, frames, FrameTime=33)
    else: sitk.WriteImage(sitk.GetImageFromArray(frames), str(path))
    assert not any('longer' in m for m in read_clip(path, sector=False).notes)
    if kind == 'mhd': path = tmp_path/'a.raw'
    whole = path.read_bytes() if kind != 'nii.gz' else gzip.decompress(path.read_bytes())
    whole = whole[:3000] + whole[3000:3000 + n] + whole[3000:]
    path.write_bytes(gzip.compress(whole) if kind == 'nii.gz' else whole)
    assert any(f'{n} bytes longer' in m for m in read_clip(tmp_path/f'a.{kind}', sector=False).notes)


def test_attributes_behind_the_pictures_are_no_damage(tmp_path):
    path = write_dicom(tmp_path/'a.dcm', FOUR, FrameTime=33)
    ds = pydicom.dcmread(path)
    ds.add_new(0x7fe10010, 'LO', 'A MAKER')
    ds.add_new(0x7fe11001, 'OB', bytes(64))
    ds.add_new(0xfffcfffc, 'OB', bytes(100))   # the standard's padding
    ds.save_as(path)
    assert not any('longer' in n for n in read_clip(path, sector=False).notes)


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'mov'])
def test_a_lost_block_of_a_video_is_said(tmp_path, suffix):
    "FFmpeg paints over what it cannot decode and counts every frame as read"
    path = write_mp4(tmp_path/f'a.{suffix}', np.random.default_rng(0).integers(0, 255, (20, 96, 96)).astype(np.uint8))
    assert not any('lost' in n for n in read_clip(path, sector=False).notes)
    whole = bytearray(path.read_bytes())
    at = len(whole)*2//5
    whole[at:at + 294] = bytes(294)
    path.write_bytes(whole)
    clip = read_clip(path, sector=False)
    assert len(clip) == 20 and any('painted over' in n for n in clip.notes)


def test_a_hundred_damaged_files():
    "scripts/fuzz.py: a clip or one clear error each, no crash, no hang, no silent change of the EF"
    import subprocess, sys
    from pathlib import Path
    script = Path(data.__file__).parents[1]/'scripts'/'fuzz.py'
    if not script.exists(): pytest.skip('an installed package has no scripts')
    done = subprocess.run([sys.executable, str(script), '--cases', '100', '--seed', '7'], text=True, errors='replace', capture_output=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
