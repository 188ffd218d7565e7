"""Bad input for `echomotion.data`: each case ends in one error or warning that names the file and what to do, and the rest goes on."""
import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import echomotion.data as data
from echomotion.data import (extract_frames, frame_dls, load_frames, mask_to_tracing, parallel_map, read_clip, read_echonet,
                             read_frames, tracing_to_mask, whole_file, write_avi, write_echonet_csv)

FRAMES = 24


def lv_mask(scale=1., size=112):
    y, x = np.mgrid[:size, :size]/size - .5
    return ((x/.15/scale)**2 + ((y + .05)/.3/scale)**2 < 1) & (y < .15*scale)


def beating(seed=0):
    rng = np.random.default_rng(seed)
    masks = np.stack([lv_mask(1 - .12*(1 - np.cos(2*np.pi*t/FRAMES))) for t in range(FRAMES)])
    return masks, (np.where(masks, 25, 120)*rng.uniform(.6, 1.2, masks.shape)).astype(np.uint8)


@pytest.fixture(scope='session')
def sound(tmp_path_factory):
    "Twelve sound clips; tests break a copy"
    path, rows, tracings = tmp_path_factory.mktemp('sound'), [], {}
    for i in range(12):
        masks, frames = beating(i)
        name = f'clip{i:02d}'
        write_avi(path/'Videos'/f'{name}.avi', frames)
        tracings[name] = {12: mask_to_tracing(masks[12]), 0: mask_to_tracing(masks[0])}   # ES first: order must not matter
        rows.append(dict(FileName=name, EF=50. + i, ESV=50, EDV=110, FrameHeight=112, FrameWidth=112, FPS=40, NumberOfFrames=FRAMES,
                         Split=['TRAIN', 'TRAIN', 'VAL', 'TEST'][i % 4]))
    return write_echonet_csv(path, pd.DataFrame(rows), tracings)


@pytest.fixture
def folder(sound, tmp_path):
    import shutil
    return Path(shutil.copytree(sound, tmp_path/'set'))


def edit(folder, change, table='FileList.csv'):
    df = pd.read_csv(folder/table).astype(object)
    df = change(df)
    df.to_csv(folder/table, index=False)


def one_warning(fn):
    "The result of `fn` and the text of the one warning it gave"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        result = fn()
    said = [str(w.message) for w in said if w.category is UserWarning]
    assert len(said) == 1, said
    return result, said[0]


def no_warning(fn):
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        return fn()


def leaves_nothing_half(out):
    "Every file under `out` is whole, none is temporary"
    for p in Path(out).rglob('*'):
        if p.is_dir(): continue
        assert not p.name.startswith('.part-'), p
        if p.suffix == '.png': assert cv2.imread(str(p), cv2.IMREAD_UNCHANGED) is not None and data._is_whole_png(p), p


# ---------------------------------------------------------------- folder and tables
def test_sound_folder_gives_no_warning(sound, tmp_path):
    echonet = no_warning(lambda: read_echonet(sound))
    assert len(echonet) == len(echonet.tracings) == 12 and echonet.skipped == ()
    assert echonet.ed_es('clip00') == (0, 12)
    assert echonet.clip('clip00').fps == 40, 'FileList.csv, not the 50 of the AVI'
    frames = no_warning(lambda: extract_frames(echonet, tmp_path/'f', progress=False))
    assert len(frames) == 24


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.*no such folder.*echonet.github.io.*phantom'): read_echonet(tmp_path/'nowhere')


def test_missing_filelist(folder):
    (folder/'FileList.csv').unlink()
    with pytest.raises(FileNotFoundError, match='FileList.csv: missing'): read_echonet(folder)


def test_folder_one_level_too_high(folder):
    with pytest.raises(FileNotFoundError, match='There is one in .*set: pass that folder'): read_echonet(folder.parent)


def test_missing_tracings_leave_ef(folder):
    (folder/'VolumeTracings.csv').unlink()
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert len(echonet) == 12 and not echonet.tracings and 'no VolumeTracings.csv' in said and '12' in said
    with pytest.raises(ValueError, match='no clip has tracings'): extract_frames(echonet, folder/'f')


def test_missing_videos(folder):
    for p in (folder/'Videos').iterdir(): p.unlink()
    with pytest.raises(FileNotFoundError, match='Videos: no videos there.*12'): read_echonet(folder)


@pytest.mark.parametrize('old, new', [('EF', 'EF_percent'), ('FileName', 'Filename'), ('Split', 'split '), ('FPS', 'Frames per second (FPS)')])
def test_renamed_column_is_recognised(folder, old, new):
    edit(folder, lambda d: d.rename(columns={old: new}))
    with pytest.raises(ValueError) as e: read_echonet(folder)
    assert f'FileList.csv: no column {old!r}' in str(e.value) and repr(new) in str(e.value) and 'rename' in str(e.value)


def test_missing_column(folder):
    edit(folder, lambda d: d.drop(columns='Split'))
    with pytest.raises(ValueError, match="FileList.csv: no column 'Split'; it has 'FileName'"): read_echonet(folder)


def test_missing_column_of_tracings(folder):
    edit(folder, lambda d: d.rename(columns={'Frame': 'frame_no'}), 'VolumeTracings.csv')
    with pytest.raises(ValueError, match="VolumeTracings.csv: no column 'Frame', but 'frame_no'"): read_echonet(folder)


@pytest.mark.parametrize('content', [b'', b'\xff\xfe\x00\x80garbage'])
def test_filelist_that_is_no_table(folder, content):
    (folder/'FileList.csv').write_bytes(content)
    with pytest.raises(ValueError, match='FileList.csv'): read_echonet(folder)


@pytest.mark.parametrize('value', ['see report', np.nan, -3, 140, np.inf])
def test_ef_that_is_no_percentage(folder, value):
    def change(d): d.loc[3, 'EF'] = value; return d
    edit(folder, change)
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert len(echonet) == 11 and 'clip03' in said and 'EF' in said and 'FileList.csv' in said


def test_unknown_split_and_double_row(folder):
    def change(d): d.loc[1, 'Split'] = 'HOLDOUT'; d.loc[2, 'FileName'] = 'clip00'; return d
    edit(folder, change)
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert echonet.names() == [f'clip{i:02d}' for i in range(12) if i not in (1, 2)]
    assert 'HOLDOUT' in said and 'listed twice' in said


def test_no_clip_left(folder):
    edit(folder, lambda d: d.assign(EF='?'))
    with pytest.warns(UserWarning, match='12'), pytest.raises(ValueError, match='none of the 12 clips'): read_echonet(folder)


def test_warning_counts_and_names(folder):
    for i in range(8): (folder/'Videos'/f'clip{i:02d}.avi').unlink()
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert len(echonet) == 4 and '8' in said and 'clip00' in said and 'and 3 more' in said and len(echonet.skipped) == 8
    with pytest.raises(KeyError, match='clip07.*no such file in Videos'): echonet.clip('clip07')


# ---------------------------------------------------------------- videos
def test_absent_and_empty_videos(folder):
    (folder/'Videos'/'clip00.avi').unlink()
    (folder/'Videos'/'clip01.avi').write_bytes(b'')
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert len(echonet) == 10 and 'clip00' in said and 'clip01' in said and 'empty' in said and 'download' in said


def bad_video(path, kind):
    whole = path.read_bytes()
    if kind == 'truncated': path.write_bytes(whole[:len(whole)//3])
    if kind == 'header only': path.write_bytes(whole[:300])
    if kind == 'not a video': path.write_text('<html>404 not found</html>'*40)
    if kind == 'one frame': write_avi(path, beating()[1][:1])
    if kind == 'hole': path.write_bytes(whole[:len(whole)//2] + bytes(6000) + whole[len(whole)//2 + 6000:])
    if kind == 'black': write_avi(path, np.zeros((FRAMES, 112, 112), np.uint8))


@pytest.mark.parametrize('kind', ['truncated', 'header only', 'not a video', 'one frame', 'hole', 'black'])
def test_bad_video_is_named_and_the_others_go_on(folder, tmp_path, kind):
    bad_video(folder/'Videos'/'clip05.avi', kind)
    echonet = no_warning(lambda: read_echonet(folder))
    frames, said = one_warning(lambda: extract_frames(echonet, tmp_path/'f', progress=False))
    assert 'clip05.avi' in said and '1 clips could not be extracted' in said
    assert len(frames) == 22 and 'clip05' not in set(frames.name)
    assert not list((tmp_path/'f').rglob('*clip05*')), 'nothing of a bad clip is left'
    leaves_nothing_half(tmp_path/'f')


@pytest.mark.parametrize('kind, says', [('truncated', 'cut short'), ('hole', 'damaged'), ('black', 'nothing to measure')])
def test_damage_is_said_when_a_clip_is_read(folder, kind, says):
    path = folder/'Videos'/'clip05.avi'
    bad_video(path, kind)
    clip, said = one_warning(lambda: read_clip(path))
    assert 'clip05.avi' in said and says in said and any(says in n for n in clip.notes)


@pytest.mark.parametrize('share', [.2, .5, .9, .97, .995])
def test_what_is_read_of_a_truncated_video_is_sound(folder, share):
    path = folder/'Videos'/'clip00.avi'
    sound = read_clip(path).frames
    whole = path.read_bytes()
    path.write_bytes(whole[:int(len(whole)*share)])
    clip, said = one_warning(lambda: read_clip(path))
    assert 0 < len(clip) < FRAMES and (clip.frames == sound[:len(clip)]).all(), 'a damaged last frame must not pass for a whole one'


@pytest.mark.parametrize('kind', ['header only', 'not a video', 'one frame'])
def test_unusable_video_is_an_error(folder, kind):
    path = folder/'Videos'/'clip05.avi'
    bad_video(path, kind)
    with pytest.raises(ValueError, match='clip05.avi'): read_clip(path)


def test_constant_and_still_clips(tmp_path):
    _, said = one_warning(lambda: read_clip(np.full((9, 64, 64), 80, np.uint8), name='grey'))
    assert 'grey' in said and '80' in said
    _, said = one_warning(lambda: read_clip(np.repeat(beating()[1][:1], 9, 0), name='still'))
    assert 'nothing moves' in said


def test_other_things_that_are_no_clip(tmp_path):
    np.save(tmp_path/'objects.npy', np.array([{'a': 1}], object), allow_pickle=True)
    (tmp_path/'pictures').mkdir()
    (tmp_path/'notes.dcm').write_text('not a DICOM file')
    (tmp_path/'bad.gif').write_bytes(b'GIF89a')
    (tmp_path/'cut.npy').write_bytes(b'\x93NUMPY\x01\x00')
    (tmp_path/'cut.npz').write_bytes(b'PK\x03\x04')
    for name in ('objects.npy', 'pictures', 'notes.dcm', 'bad.gif', 'cut.npy', 'cut.npz', 'nothing.avi'):
        with pytest.raises((ValueError, FileNotFoundError)) as e: read_clip(tmp_path/name)
        assert name in str(e.value), f'{name}: {e.value}'


def test_frames_of_different_sizes(tmp_path):
    for i, side in enumerate((64, 64, 60)): cv2.imwrite(str(tmp_path/f'{i}.png'), np.random.default_rng(i).integers(0, 255, (side, 64), np.uint8))
    with pytest.raises(ValueError, match='frame 2 is .60, 64.'): read_clip(tmp_path)
    (tmp_path/'2.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='1 of 3 pictures cannot be read .2.png'): read_clip(tmp_path)


@pytest.mark.filterwarnings('ignore:End of file')
def test_truncated_dicom(tmp_path):
    whole = data.example_dicom().read_bytes()
    (tmp_path/'cut.dcm').write_bytes(whole[:len(whole)//2])
    with pytest.raises(ValueError, match='cut.dcm.*(cut short|whole)'): read_clip(tmp_path/'cut.dcm')


def test_dicom_region_elsewhere_gives_no_pixel_size(tmp_path):
    import pydicom
    ds = pydicom.dcmread(data.example_dicom())
    r = ds.SequenceOfUltrasoundRegions[0]
    r.RegionLocationMinX0, r.RegionLocationMinY0, r.RegionLocationMaxX1, r.RegionLocationMaxY1 = 0, 0, 60, 40
    ds.save_as(tmp_path/'odd.dcm')
    clip = read_clip(tmp_path/'odd.dcm')
    assert clip.pixel_mm is None and any('not where the sector is' in n for n in clip.notes)


@pytest.mark.parametrize('suffix', ['mp4', 'avi'])
def test_ecg_strip_and_text_of_a_screen_are_left_out(tmp_path, suffix):
    real = data.resize_clip(data.example_clip(), 400).frames
    picture = np.zeros((len(real), 480, 640, 3), np.uint8)
    picture[:, 20:420, 60:460] = real[..., None]
    kind = {'mp4': 'mp4v', 'avi': 'MJPG'}[suffix]
    out = cv2.VideoWriter(str(tmp_path/f'screen.{suffix}'), cv2.VideoWriter_fourcc(*kind), 25, (640, 480))
    for t, p in enumerate(picture):
        cv2.putText(p, 'HR 72  MI 1.1', (480, 60), 0, .6, (220, 220, 220), 1)
        x = np.arange(60, 60 + 400*(t + 1)//len(real))
        y = (455 - 15*np.exp(-((x % 130 - 60)/4)**2)).astype(int)
        cv2.polylines(p, [np.stack([x, y], 1)], False, (0, 220, 0), 1)
        out.write(p)
    out.release()
    clip = read_clip(tmp_path/f'screen.{suffix}')
    rows, columns = np.array([n.split('rows ')[1].replace(',', '').split() for n in clip.notes if 'rows' in n][0])[[0, 2]].astype(int), clip.shape[2]
    assert 60 < rows[0] < 95 and 355 < rows[1] < 380 and 390 < columns < 412, clip.notes   # the dark tip of the fan is lost to the compression
    assert clip.shape[1] == clip.shape[2] and not clip.frames[:, ~clip.sector].any()


# ---------------------------------------------------------------- tracings
def shifted(folder, name, **change):
    def apply(d):
        rows = d.FileName == f'{name}.avi'
        for column, by in change.items(): d.loc[rows, column] = d.loc[rows, column] + by
        return d
    edit(folder, apply, 'VolumeTracings.csv')


def test_tracing_outside_the_frame(folder):
    shifted(folder, 'clip02', X1=70, X2=70)
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert 'clip02' in said and 'outside the picture' in said and len(echonet) == 12 and 'clip02' not in echonet.tracings


def test_tracing_past_the_last_frame(folder):
    shifted(folder, 'clip02', Frame=15)   # frames 15 and 27 of 24
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert 'clip02' in said and 'past the last frame (27 of 24)' in said and 'clip02' not in echonet.tracings


def test_tracing_past_the_end_of_a_video_shorter_than_listed(folder, tmp_path):
    write_avi(folder/'Videos'/'clip02.avi', beating()[1][:8])
    echonet = no_warning(lambda: read_echonet(folder))
    frames, said = one_warning(lambda: extract_frames(echonet, tmp_path/'f', progress=False))
    assert 'clip02.avi: frame 12 is traced, the video ends after 8' in said and len(frames) == 22


def test_one_traced_frame_and_none(folder):
    edit(folder, lambda d: d[~((d.FileName == 'clip02.avi') & (d.Frame == 12)) & (d.FileName != 'clip03.avi')], 'VolumeTracings.csv')
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert 'one traced frame only' in said and 'clip02' in said and 'no traced frame' in said and 'clip03' in said
    assert len(echonet) == 12 and len(echonet.tracings) == 10
    with pytest.raises(KeyError, match='clip02.*one traced frame only'): echonet.ed_es('clip02')


def test_tracing_of_text_and_of_no_area(folder):
    def change(d):
        d.loc[(d.FileName == 'clip02.avi') & (d.Frame == 0), 'X1'] = 'left'
        d.loc[(d.FileName == 'clip03.avi') & (d.Frame == 0), ['X1', 'X2', 'Y1', 'Y2']] = 50
        return d
    edit(folder, change, 'VolumeTracings.csv')
    echonet, said = one_warning(lambda: read_echonet(folder))
    assert 'not all numbers' in said and 'encloses nothing' in said and len(echonet.tracings) == 10


def test_crossed_outline_is_filled():
    lines = mask_to_tracing(lv_mask())
    swapped = lines.copy()
    swapped[10] = lines[10][[2, 3, 0, 1]]   # one chord the other way round
    a, b = (tracing_to_mask(x, (112, 112)) for x in (lines, swapped))
    assert 2*(a & b).sum()/(a.sum() + b.sum()) > .85


# ---------------------------------------------------------------- extracted frames
@pytest.fixture
def frames_dir(sound, tmp_path):
    extract_frames(read_echonet(sound), tmp_path/'frames', progress=False)
    return tmp_path/'frames'


def a_mask(frames_dir):
    return frames_dir/read_frames(frames_dir)['mask'][0]


def test_mask_of_0_and_255(frames_dir):
    path = a_mask(frames_dir)
    cv2.imwrite(str(path), cv2.imread(str(path), 0)*255)
    for fn in (load_frames, frame_dls):
        with pytest.raises(ValueError) as e: fn(frames_dir)
        assert str(path) in str(e.value) and '255' in str(e.value) and 'mask > 0' in str(e.value)


def test_mask_of_another_size(frames_dir):
    path = a_mask(frames_dir)
    cv2.imwrite(str(path), np.zeros((56, 56), np.uint8))
    for fn in (load_frames, frame_dls):
        with pytest.raises(ValueError, match=r'the mask is \(56, 56\), its picture \(112, 112\)'): fn(frames_dir)


def test_picture_gone_or_no_picture(frames_dir):
    path = frames_dir/read_frames(frames_dir).image[0]
    path.write_text('not a picture')
    with pytest.raises(FileNotFoundError, match='extract_frames'): load_frames(frames_dir)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name): load_frames(frames_dir)


def test_unfinished_folder_is_not_read(frames_dir, tmp_path):
    (frames_dir/'frames.csv').unlink()
    with pytest.raises(FileNotFoundError, match='did not finish.*extract_frames'): read_frames(frames_dir)
    with pytest.raises(FileNotFoundError, match='wrong folder'): read_frames(tmp_path/'elsewhere')


def test_no_training_clip(folder, tmp_path):
    edit(folder, lambda d: d.assign(Split='TEST'))
    extract_frames(read_echonet(folder), tmp_path/'f', progress=False)
    with pytest.raises(ValueError, match='no frame belongs to split TRAIN'): frame_dls(tmp_path/'f')


def test_cache_of_another_size_or_set_is_refused(sound, folder, frames_dir):
    with pytest.raises(FileExistsError, match='size=112 there, size=64 now.*another folder'): extract_frames(read_echonet(sound), frames_dir, size=64)
    with pytest.raises(FileExistsError, match='another folder'): extract_frames(read_echonet(folder), frames_dir)


# ---------------------------------------------------------------- disk full, killed
def full_disk(monkeypatch, after):
    "Let `after` files be written, then have no room"
    real, count = Path.write_bytes, [0]
    def write(self, content):
        if self.suffix == '.png':
            count[0] += 1
            if count[0] > after:
                real(self, content[:len(content)//2])
                raise OSError(errno.ENOSPC, 'No space left on device', str(self))
        return real(self, content)
    monkeypatch.setattr(Path, 'write_bytes', write)


@pytest.mark.parametrize('after', [0, 5])
def test_full_disk(sound, tmp_path, monkeypatch, after):
    echonet, out = read_echonet(sound), tmp_path/'f'
    with monkeypatch.context() as m:
        full_disk(m, after)
        with pytest.raises(OSError, match='no room left on the disk.*run the same call again') as e: extract_frames(echonet, out, progress=False)
        assert e.value.errno == errno.ENOSPC
    assert not (out/'frames.csv').exists() and len(list(out.rglob('*.png'))) == after
    leaves_nothing_half(out)
    assert len(no_warning(lambda: extract_frames(echonet, out, progress=False))) == 24


def test_rename_that_fails(sound, tmp_path, monkeypatch):
    echonet, out = read_echonet(sound), tmp_path/'f'
    real = os.replace
    def replace(a, b):
        if str(b).endswith('_mask.png'): raise OSError(errno.EIO, 'Input/output error', str(b))
        return real(a, b)
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', replace)
        with pytest.raises(OSError, match='Input/output error'): extract_frames(echonet, out, progress=False)
    assert not list(out.rglob('*.png')) and not (out/'frames.csv').exists()
    leaves_nothing_half(out)


def test_whole_file_keeps_the_old_one(tmp_path):
    path = tmp_path/'weights.bin'
    path.write_bytes(b'old and whole')
    with pytest.raises(OSError, match='weights.bin'):
        with whole_file(path) as f: f.write_bytes(b'new a'); raise OSError(errno.ENOSPC, 'No space left on device')
    assert path.read_bytes() == b'old and whole' and os.listdir(tmp_path) == ['weights.bin']


def test_video_of_a_full_disk(tmp_path, monkeypatch):
    class Writer:
        def __init__(self, path, *args): Path(path).write_bytes(b'RIFF')
        def isOpened(self): return True
        def write(self, frame): pass
        def release(self): pass
    monkeypatch.setattr(cv2, 'VideoWriter', Writer)
    monkeypatch.setattr(cv2, 'VideoWriter_fourcc', lambda *a: 0, raising=False)
    with pytest.raises(OSError, match='a.avi'): write_avi(tmp_path/'a.avi', beating()[1])
    assert os.listdir(tmp_path) == []


STOPS = """
import sys, time
from pathlib import Path
import echomotion.data as data
real, count = Path.write_bytes, [0]
def write(self, content):
    count[0] += self.suffix == '.png'
    if count[0] < 6: return real(self, content)
    real(self, content[:len(content)//2])
    print('half of a file is written', flush=True)
    time.sleep(60)
Path.write_bytes = write
data.extract_frames(data.read_echonet(sys.argv[1]), sys.argv[2], workers=0, progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_killed_in_the_middle(sound, tmp_path):
    out = tmp_path/'f'
    child = subprocess.Popen([sys.executable, '-c', STOPS, str(sound), str(out)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline()
    child.kill()
    child.wait()
    assert len(list(out.rglob('clip*.png'))) == 5 and len(list(out.rglob('.part-*'))) == 1, 'it was killed while it wrote'
    with pytest.raises(FileNotFoundError, match='did not finish'): read_frames(out)
    frames = no_warning(lambda: extract_frames(read_echonet(sound), out, progress=False))
    assert len(frames) == 24 and len(load_frames(out)[0]) == 24
    leaves_nothing_half(out)


def dies(job):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_killed_worker(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parent) + os.pathsep + os.environ.get('PYTHONPATH', ''))
    with pytest.raises(RuntimeError, match='worker process was killed.*run the same call again'): parallel_map(dies, range(4), workers=2, progress=False)


def waits(job):
    Path(job, str(os.getpid())).touch()
    time.sleep(300)


def alive(pid):
    "Whether a process runs; one that ended and was not yet cleared away (a zombie) does not"
    done = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], text=True, capture_output=True).stdout.strip()
    return bool(done) and not done.startswith('Z')


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
@pytest.mark.parametrize('name', ['SIGKILL', 'SIGINT'])
def test_workers_end_with_their_caller(tmp_path, name):
    "A notebook's kernel that is killed, or a call that is interrupted, leaves no processes behind that go on writing"
    calls = f'from echomotion.data import parallel_map; from test_hostile_data import waits; parallel_map(waits, [{str(tmp_path)!r}]*4, workers=2, progress=False)'
    path = str(Path(__file__).parent) + os.pathsep + os.environ.get('PYTHONPATH', '')
    child = subprocess.Popen([sys.executable, '-c', calls], env={**os.environ, 'PYTHONPATH': path})
    def until(done):
        end = time.monotonic() + 60
        while not done() and time.monotonic() < end: time.sleep(.1)
        assert done()
    try: until(lambda: len(os.listdir(tmp_path)) == 2)
    finally: child.send_signal(getattr(signal, name)); child.wait(60)
    until(lambda: not any(map(alive, os.listdir(tmp_path))))


def test_processes_write_the_same_files(sound, tmp_path):
    echonet = read_echonet(sound)
    for workers in (0, 2): extract_frames(echonet, tmp_path/str(workers), workers=workers, progress=False)
    a, b = ({p.relative_to(d): p.read_bytes() for p in d.rglob('*.png')} for d in (tmp_path/'0', tmp_path/'2'))
    assert a == b and len(a) == 48


def test_script_without_a_guard(sound, tmp_path):
    "A student's script that calls it at top level must not start itself again in every worker"
    script = tmp_path/'script.py'
    script.write_text('import echomotion.data as d\nprint("started")\n'
                      f'd.extract_frames(d.read_echonet({str(sound)!r}), {str(tmp_path/"f")!r}, workers=2, progress=False)\nprint("done")\n')
    done = subprocess.run([sys.executable, str(script)], text=True, capture_output=True)
    assert done.stdout.split() == ['started', 'done'], done.stderr


def test_import_is_quick_and_light():
    code = 'import sys, echomotion.data; print([m for m in ("torch", "fastai", "matplotlib", "pydicom") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr


def test_a_patient_column_is_kept(folder):
    edit(folder, lambda df: df.assign(Patient=[f'P{i//2}' for i in range(len(df))]))
    clips = read_echonet(folder).clips
    assert clips.Patient['clip00'] == clips.Patient['clip01'] == 'P0' and clips.Patient['clip11'] == 'P5'
