#!/usr/bin/env python3
"""Damaged files of every kind, read one after the other: python scripts/fuzz.py [--cases 1000] [--seed 0] [--kinds avi,dicom] [--only 525,775]

Each must end in a clip or in one error that names the file; none may crash, hang, take too much memory, or give an ejection fraction that is more than 5 points off without a note or a
doubt. The recording inside is a drawn heart whose cavity a threshold finds, so that it is the reading that is tried and not a network. Exit status 1, and a line a fault, where something fails.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np

KINDS = 'avi', 'mp4', 'gif', 'dicom', 'tiff', 'nifti', 'npz', 'csv', 'safetensors'
SECONDS, GIGABYTES = 60, 12   # for one file; address space of the process, most of which is libraries


def drawn_heart(frames=30, size=96):
    "uint8 (T, H, W): a dark cavity that beats twice in bright speckle"
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:size, :size]/size - .5
    scale = 1 - .12*(1 - np.cos(4*np.pi*np.arange(frames)/frames))
    return np.stack([np.where((x/.17/s)**2 + ((y + .05)/.3/s)**2 < 1, 20, 130)*rng.uniform(.8, 1.2, x.shape) for s in scale]).astype(np.uint8)


class Threshold:
    "In place of a network: what is dark in the middle"
    config = SimpleNamespace(size=96)
    def predict(self, images):
        import cv2
        y, x = np.mgrid[:96, :96]/96 - .5
        return np.stack([(cv2.blur(im, (5, 5)) < 70) & (np.hypot(x, y) < .42) for im in images]).astype(np.float32)


def write_sound(folder):
    "One sound file (or data set) of each kind: kind -> the files that may be damaged"
    import cv2, pandas as pd, SimpleITK as sitk
    from PIL import Image
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian
    from echomotion.data import mask_to_tracing, write_avi, write_echonet_csv
    from echomotion.train import load_model
    frames, folder = drawn_heart(), Path(folder)
    write_avi(folder/'a.avi', frames, 30)
    out = cv2.VideoWriter(str(folder/'a.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 30, frames.shape[:0:-1])
    for f in frames: out.write(cv2.cvtColor(f, cv2.COLOR_GRAY2BGR))
    out.release()
    ims = [Image.fromarray(f) for f in frames]
    ims[0].save(folder/'a.gif', save_all=True, append_images=ims[1:], duration=30)
    cv2.imwritemulti(str(folder/'a.tif'), list(frames))
    image = sitk.GetImageFromArray(frames)
    image.SetSpacing((.9, .9, 1.))
    sitk.WriteImage(image, str(folder/'a.nii'))
    np.savez(folder/'a.npz', frames=frames, fps=30)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, '1.2.840.10008.5.1.4.1.1.3.1', '1.2.3'
    ds = FileDataset('a.dcm', {}, file_meta=meta, preamble=bytes(128))
    ds.Rows, ds.Columns, ds.NumberOfFrames, ds.SamplesPerPixel, ds.PhotometricInterpretation = 96, 96, 30, 1, 'MONOCHROME2'
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.FrameTime, ds.PixelData = 8, 8, 7, 0, 33.3, frames.tobytes()
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, '1.2.3'
    ds.save_as(folder/'a.dcm', enforce_file_format=True)
    masks = Threshold().predict(frames) > 0
    rows = [dict(FileName=f'c{i}', EF=55., ESV=50, EDV=110, FrameHeight=96, FrameWidth=96, FPS=30, NumberOfFrames=30, Split=s) for i, s in enumerate(('TRAIN', 'VAL', 'TEST'))]
    for r in rows: write_avi(folder/'set'/'Videos'/f"{r['FileName']}.avi", frames, 30)
    write_echonet_csv(folder/'set', pd.DataFrame(rows), {r['FileName']: {t: mask_to_tracing(masks[t]) for t in (0, 7)} for r in rows})
    weights = next((Path(load_model.__code__.co_filename).parent/'weights').glob('*.safetensors'))
    (folder/'a.safetensors').write_bytes(weights.read_bytes())
    for beside in weights.parent.glob(f'{weights.stem}*.json'): (folder/f'a{beside.name[len(weights.stem):]}').write_bytes(beside.read_bytes())
    return dict(avi='a.avi', mp4='a.mp4', gif='a.gif', dicom='a.dcm', tiff='a.tif', nifti='a.nii', npz='a.npz', csv='set/FileList.csv', safetensors='a.safetensors')


def damaged(data, rng):
    "The bytes with some of them changed, lost, added or cut off"
    a, n = bytearray(data), len(data)
    for _ in range(int(rng.integers(1, 4))):
        at, size, how = int(rng.integers(n if rng.random() < .5 else min(n, 600))), int(rng.integers(1, max(2, n//20))), rng.integers(6)
        if how == 0: a[at:at + 1] = bytes([int(rng.integers(256))])
        if how == 1: a[at:at + 4] = rng.choice([b'\0\0\0\0', b'\xff\xff\xff\xff', b'\x7f\xff\xff\xff', b'\0\0\0\x01'])
        if how == 2: a[at:at + size] = bytes(min(size, max(0, len(a) - at)))
        if how == 3: del a[at:at + size]
        if how == 4: a[at:at] = a[at:at + size]
        if how == 5 and rng.random() < .5: del a[max(1, int(rng.integers(n))):]
    return bytes(a)


def read(kind, path):
    "What a file gives: (EF or None, everything that was said of it)"
    from echomotion.data import read_clip, read_echonet
    from echomotion.ef import clip_ef
    from echomotion.train import load_model
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        if kind == 'safetensors': return None, [repr(load_model(path, device='cpu'))]
        if kind == 'csv':
            echonet = read_echonet(path.parent)
            return None, [repr(echonet), *map(str, echonet.skipped)]
        clip = read_clip(path, sector=False)
        result = clip_ef(clip, Threshold())
    return float(result.ef), [*clip.notes, *result.doubts, *(str(w.message) for w in said)]


def one_case(i, seed, sound, folder, kinds, usual):
    "Damage a file, read it; a dict with what came of it"
    kind, rng = kinds[i % len(kinds)], np.random.default_rng([seed, i])
    source = Path(folder)/sound[kind]
    if kind == 'csv' and rng.random() < .5: source = source.with_name('VolumeTracings.csv')
    whole = source.read_bytes()
    path = source if kind in ('csv', 'safetensors') else source.with_name(f'case{i}{source.suffix}')
    path.write_bytes(damaged(whole, rng))
    try:
        ef, said = read(kind, path)
        silent = ef is not None and np.isfinite(ef) and abs(ef - usual[kind][0]) > 5 and not set(said) - set(usual[kind][1])
        return dict(i=i, kind=kind, end='clip', fault=f'EF {ef:.1f} for {usual[kind][0]:.1f}, and nothing is said' if silent else None)
    except (ValueError, FileNotFoundError, OSError) as e:
        named = path.name in str(e) or path.parent.name in str(e)
        return dict(i=i, kind=kind, end='error', fault=None if named else f'an error without the file: {type(e).__name__}: {str(e)[:200]}')
    except BaseException as e: return dict(i=i, kind=kind, end='error', fault=f'{type(e).__name__}: {str(e)[:200]}')
    finally:
        if path == source: source.write_bytes(whole)
        else: path.unlink(missing_ok=True)


def child(args):
    "Run cases one after the other; a line each on standard output"
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30,)*2)
    except ImportError: pass   # no such limit on this system
    folder, kinds = Path(args.folder), args.kinds.split(',')
    sound = json.loads((folder/'sound.json').read_text())
    usual = {k: read(k, folder/sound[k]) for k in kinds}
    for i in range(args.start, args.cases):
        if args.only and str(i) not in args.only.split(','): continue
        print(f'CASE {i}', flush=True)
        print('DONE ' + json.dumps(one_case(i, args.seed, sound, folder, kinds, usual)), flush=True)


def watched(args, folder):
    "Results of all cases: a process that ends or hangs is one fault, and the next one takes over"
    results, start = [], 0
    while start < args.cases:
        command = [sys.executable, __file__, '--child', '--folder', str(folder), '--start', str(start), '--cases', str(args.cases), '--seed', str(args.seed), '--kinds', args.kinds, '--only', args.only]
        p, at = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True), None
        timer = threading.Timer(4*SECONDS, p.kill)   # the first one starts the libraries
        timer.start()
        for line in p.stdout:
            timer.cancel()
            timer = threading.Timer(SECONDS, p.kill)
            timer.start()
            if line.startswith('CASE'): at = int(line.split()[1])
            if line.startswith('DONE'): results.append(json.loads(line[5:])); at = None
        timer.cancel()
        if p.wait() == 0: break
        if at is None: raise SystemExit('the reading process does not start')
        results.append(dict(i=at, kind=args.kinds.split(',')[at % len(args.kinds.split(','))], end='crash', fault=f'the process ended ({p.returncode}) or took more than {SECONDS} s'))
        start = at + 1
    return results


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--cases', type=int, default=1000)
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--kinds', default=','.join(KINDS))
    ap.add_argument('--only', default='', help='numbers of single cases, with commas between')
    ap.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    ap.add_argument('--start', type=int, default=0, help=argparse.SUPPRESS)
    ap.add_argument('--folder', help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.only: args.cases = max(map(int, args.only.split(','))) + 1
    if args.child: return child(args)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder)/'sound.json').write_text(json.dumps(write_sound(folder)))
        results = watched(args, folder)
    faults = [r for r in results if r['fault']]
    for r in faults: print(f"case {r['i']} ({r['kind']}): {r['fault']}")
    ends = {e: sum(r['end'] == e for r in results) for e in ('clip', 'error', 'crash')}
    print(f"{len(results)} damaged files: {ends['clip']} read, {ends['error']} refused, {ends['crash']} crashed or hung; {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == '__main__': main()
