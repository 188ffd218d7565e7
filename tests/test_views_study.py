"""Two planes, and a patient's folder as scanners export it: made here with pydicom."""
import json
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from echomotion import views
from echomotion.cli import main
from echomotion.data import Clip, write_avi
from echomotion.ef import disk_volume, measure_ef
from echomotion.phantom import Heart, Scanner, Ventricle, View, render
from echomotion.train import load_model

SECRET = 'Mustermann^Erika', 'PID778899', '19510203'
HEART = Heart(edv=130, ef=55, heart_rate=75, rr_var=0., ef_var=0., ovality=0.)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        yield


@pytest.fixture(scope='module')
def model(): return load_model(device='cpu')


def plane(rotation, n=20, heart=HEART, fps=14., **view):
    return render(heart, View(rotation=rotation, drift=.5, **view), Scanner(fps=fps), 112, n, seed=int(rotation))


@pytest.fixture(scope='module')
def planes(): return plane(0.), plane(60.), plane(120.)


def true_of(p, **more): return measure_ef(p.masks, p.clip.fps, p.clip.pixel_mm, p.clip.sector, 'true', **more)


def write_dicom(path, frames=None, mm=None, fps=14., shows=(1, 1), syntax=ExplicitVRLittleEndian, **attributes):
    "A file as a scanner writes it; without frames a report"
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = UID(syntax), UID('1.2.840.10008.5.1.4.1.1.3.1')
    meta.MediaStorageSOPInstanceUID = UID('1.2.3')
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = meta.MediaStorageSOPClassUID, UID('1.2.3'), 'US'
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = SECRET
    if frames is not None:
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *frames.shape[1:], 1, 'MONOCHROME2'
        ds.PixelRepresentation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 0, 8, 8, 7
        ds.NumberOfFrames, ds.FrameTime, ds.PixelData = len(frames), 1000/fps, frames.tobytes()
    if mm:
        r = Dataset()
        (r.RegionSpatialFormat, r.RegionDataType), r.PhysicalUnitsXDirection, r.PhysicalUnitsYDirection = shows, 3, 3
        r.RegionLocationMinX0, r.RegionLocationMinY0, r.RegionLocationMaxX1, r.RegionLocationMaxY1 = 0, 0, frames.shape[2] - 1, frames.shape[1] - 1
        r.PhysicalDeltaY, r.PhysicalDeltaX = mm[0]/10, mm[1]/10
        ds.SequenceOfUltrasoundRegions = [r]
    for key, value in attributes.items():
        if value is None: delattr(ds, key)
        else: setattr(ds, key, value)
    ds.save_as(path, enforce_file_format=True)
    return path


def cine(path, p, **attributes): return write_dicom(path, p.clip.frames, p.clip.pixel_mm, p.clip.fps, **attributes)


def sees(**known):
    "A classifier that knows the views of files by their last part"
    def classify(clip):
        view = known.get(clip.name.split('/')[-1].split('.')[0], 'other')
        return SimpleNamespace(view=view, p={view: .9}, mirrored=False, kind='parasternal' if view == 'other' else '')
    return classify


VIEWS = dict(IM1='A4C', IM2='A2C', IM3='A3C')


@pytest.fixture(scope='module')
def folder(planes, tmp_path_factory):
    "A study with all that there is in one"
    top = tmp_path_factory.mktemp('study')
    for i, p in enumerate(planes): cine(top/'DICOM'/'S1'/f'IM{i + 1}', p, PatientSize='1.80', PatientWeight='80')
    frames, mm = planes[0].clip.frames, planes[0].clip.pixel_mm
    write_dicom(top/'DICOM'/'S1'/'IM4', frames[:1], mm)
    write_dicom(top/'DICOM'/'S2'/'IM5', frames, mm, shows=(1, 2))
    write_dicom(top/'DICOM'/'S2'/'IM6', frames, mm, shows=(3, 3))
    write_dicom(top/'DICOM'/'S2'/'IM7', frames, mm, shows=(2, 1))
    write_dicom(top/'DICOM'/'S2'/'IM8', frames, mm, Modality='XA')
    write_dicom(top/'DICOM'/'S3'/'IM9', Modality='SR')
    cine(top/'DICOM'/'S3'/'IM10', planes[0])                       # no apical view, says the classifier
    (top/'DICOM'/'S3'/'IM11').write_bytes((top/'DICOM'/'S1'/'IM1').read_bytes()[:6000])   # cut short
    cv2.imwrite(str(top/'DICOM'/'S3'/'IM12.png'), frames[0])
    (top/'Mustermann_Erika.pdf').write_bytes(b'%PDF-1.4 Erika Mustermann')
    (top/'empty').touch()
    with open(top/'DICOMDIR', 'wb') as f: f.write(bytes(128) + b'DICM' + b'Mustermann')
    return top


def a_ball(clip):
    "An atrium of 24 pixels across"
    y, x = np.mgrid[:clip.shape[1], :clip.shape[2]] - 60
    return np.repeat((np.hypot(y, x) < 12)[None], len(clip), 0)


@pytest.fixture(scope='module')
def study(folder, model):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return views.measure_study(folder, model, sees(**VIEWS), a_ball, progress=False)


# ---------------------------------------------------------------- two planes
def test_biplane_of_true_outlines(planes):
    r = views.biplane_ef(*(true_of(p) for p in planes[:2]))
    assert abs(r.ef - planes[0].ef) < 3 and abs(r.edv - planes[0].edv) < 12 and not any('differ' in d for d in r.doubts), r.summary()


def test_pairs_of_beats_know_no_frame_numbers(planes):
    "The second recording starts elsewhere in the beat and is twice as fast: the same EF"
    first, fast = true_of(planes[0]), true_of(plane(60., 52, fps=28.))
    late = true_of(plane(60., 52, heart=Heart(**{**HEART.__dict__, 'phase': .5}), fps=28.))
    one, two = (views.biplane_ef(first, r) for r in (fast, late))
    assert abs(one.ef - two.ef) < 2 and abs(int(fast.beats.ed.iloc[0]) - int(late.beats.ed.iloc[0])) > 4
    assert abs(one.curve[20] - one.esv) < 3 and one.curve[20] < one.curve[10] < one.curve[0]


def test_the_second_plane_corrects_what_the_first_cannot_see():
    h = Heart(edv=150, ef=40, defect=1.3, defect_s=.5, defect_deg=90., defect_width=.6, rr_var=0., ef_var=0.)
    a, b = (true_of(plane(deg, heart=h)) for deg in (0., 90.))
    assert a.ef > 43 and abs(views.biplane_ef(a, b).ef - 40) < abs(a.ef - 40) - 1.5


@pytest.mark.parametrize('words, change', [
    ('the long axes differ by 3', dict(pixel_mm=.7)), ('the size of a pixel is not known in both', dict(pixel_mm=None)),
    ('the heart rates differ', dict(fps=2.)), ('are both of the same patient', dict(pixel_mm=.7, fps=2.))])
def test_what_two_recordings_say_against_each_other(planes, words, change):
    a, p = true_of(plane(0., 36)), plane(60., 36)
    mm = p.clip.pixel_mm if 'pixel_mm' not in change else change['pixel_mm'] and tuple(change['pixel_mm']*v for v in p.clip.pixel_mm)
    b = measure_ef(p.masks, p.clip.fps*change.get('fps', 1), mm, p.clip.sector)
    plain = views.biplane_ef(a, true_of(p))
    said = views.biplane_ef(a, b)
    assert any(words in d for d in said.doubts) and not any(words in d for d in plain.doubts), said.doubts
    assert abs(said.ef - plain.ef) < 2


@pytest.mark.parametrize('angle, doubted', [(None, False), (90, False), (60, False), (40, True), (-90, False), (160, True), (240, False)])
def test_the_angle_of_the_planes(planes, angle, doubted):
    r = views.biplane_ef(true_of(planes[0]), true_of(planes[1]), angle=angle)
    assert any('degrees apart' in d for d in r.doubts) == doubted


def test_one_plane_without_an_ef(planes):
    r = views.biplane_ef(true_of(planes[0]), measure_ef(np.zeros((12, 40, 40), bool), 20.))
    assert np.isnan(r.ef) and any(d.startswith('A2C: no LV') for d in r.doubts) and 'no biplane EF' in r.summary()


@pytest.mark.parametrize('systole', [0., 1.])
def test_the_length_of_the_outline_is_that_of_the_ventricle(systole):
    p = plane(0., heart=HEART)
    t, lv = (p.es if systole else p.ed), Ventricle(HEART)
    L, _, inner, _ = lv.contract(float(p.volumes[t]), systole)
    s = np.linspace(0, 1, 200)
    r = [np.interp(s, lv.s[:, 0], np.where(lv.s[:, 0] <= 0, 0, inner[:, k])) for k in (0, lv.n_theta//2)]
    true = sum(np.hypot(np.diff(x), np.diff(s*L)).sum() for x in r)
    assert abs(views.outline_length(p.masks[t], p.clip.pixel_mm)/true - 1) < .06


def test_error_gain_knows_how_little_it_knows():
    assert views.error_gain([3, 3], [1, 1]) == (2, 2, 2)
    mean, low, high = views.error_gain(np.arange(10.), np.arange(10.)[::-1])
    assert mean == 0 and low < -2 < 2 < high


# ---------------------------------------------------------------- a study
def test_each_file_is_measured_or_says_why_not(study):
    why = {n.split('/')[-1]: w for n, w in study.left_out}
    assert [r['name'].split('/')[-1] for r in study.recordings] == ['IM1', 'IM2', 'IM3']
    assert (why['IM4'], why['IM5'], why['IM6'], why['IM7'], why['IM8'], why['IM9']) == (
        'a still: one picture', 'colour Doppler', 'spectral Doppler', 'M-mode', 'XA, no ultrasound', 'a report, no pictures')
    assert why['IM10'] == 'no apical view (parasternal)' and why['DICOMDIR'] == 'the index of the disc' and why['IM12.png'] == 'a still: one picture'
    assert 'cut short' in why['IM11'] or 'whole' in why['IM11'] or 'damaged' in why['IM11'], why['IM11']
    assert sorted(why.values()).count('no recording') == 1 and 'empty (0 bytes)' in why.values()


def test_the_study_is_measured(study, planes):
    d = study.as_dict()
    assert d['planes'] == 2 and abs(d['ef'] - planes[0].ef) < 15 and {r['view'] for r in d['recordings'] if r['chosen']} == {'A4C', 'A2C', 'A3C'}
    assert d['body_surface_m2'] == 2.0 and d['edv_index_ml_m2'] == pytest.approx(d['edv_ml']/2, abs=.1)
    strains = [r['outline_strain'] for r in d['recordings']]
    assert d['outline_strain_percent'] == pytest.approx(np.mean(strains), abs=.06) and max(strains) < -3
    mm = planes[0].clip.pixel_mm[0]
    assert d['left_atrium_ml'] == pytest.approx(4/3*np.pi*(12*mm)**3/1000, rel=.1)


@pytest.mark.parametrize('identify', [False, True])
def test_nobody_is_named_unless_asked(folder, model, study, tmp_path, identify):
    if identify: study = views.measure_study(folder, model, sees(**VIEWS), atrium=False, identify=True, progress=False)
    page, data = views.write_study(study, tmp_path/'out')
    text = (page.read_text(encoding='utf-8') + data.read_text(encoding='utf-8') + study.summary()).lower()
    assert [w in text for w in ('mustermann', 'erika', 'pid778899', '19510203')] == [identify]*4
    assert 'not a medical device' in text and '<script' not in text and str(folder).lower() not in text
    told = json.loads(data.read_text())
    assert told['recordings'][0]['file'].endswith('IM1') and (told['patient'] is not None) == identify


def test_heights_in_centimetres_and_nonsense(planes, tmp_path):
    for i, (height, weight, want) in enumerate((('180', '80', 2.0), ('0', '80', None), (None, None, None))):
        cine(tmp_path/f'{i}'/'IM1', planes[0], **{k: v for k, v in (('PatientSize', height), ('PatientWeight', weight)) if v})
        headers = [views._header(tmp_path/f'{i}'/'IM1')]
        found = views._surface(headers)
        assert (None if np.isnan(found) else round(found, 2)) == want


def test_two_patients_are_refused_without_names(planes, tmp_path, capsys):
    cine(tmp_path/'IM1', planes[0]); cine(tmp_path/'IM2', planes[1], PatientName='Beispiel^Otto', PatientID='PID111')
    assert main(['study', str(tmp_path), '--out', str(tmp_path/'out')]) == 2
    said = ''.join(capsys.readouterr())
    assert 'files of 2 patients' in said and said.count('\n') == 1 and not (tmp_path/'out').exists()
    assert not any(w in said for w in ('Otto', 'Beispiel', 'PID', 'Erika', 'Mustermann'))


@pytest.mark.parametrize('other, refused', [
    (dict(PatientID='PID1'), True), (dict(PatientBirthDate='19510204'), True), (dict(PatientName='Muster^Erika'), False),
    (dict(PatientID='', PatientName='Beispiel^Otto', PatientBirthDate=''), True), (dict(PatientID='', PatientName='', PatientBirthDate=''), False),
    (dict(PatientID='', PatientName='MUSTERMANN^ERIKA^^'), False)])
def test_who_is_another_patient(planes, tmp_path, other, refused):
    write_dicom(tmp_path/'a', planes[0].clip.frames[:2]); write_dicom(tmp_path/'b', planes[0].clip.frames[:2], **other)
    if refused: pytest.raises(ValueError, views.study_files, tmp_path).match('2 patients')
    else: assert len(views.study_files(tmp_path)) == 2


@pytest.mark.parametrize('known, said', [(dict(IM1='A4C'), 'only A4C, no A2C'), (dict(IM2='A2C'), 'only A2C, no A4C'), ({}, 'no apical clip among 2 files'),
                                         (dict(IM1='A3C'), 'neither A4C nor A2C')])
def test_a_study_with_less(planes, tmp_path, model, known, said):
    for i, p in enumerate(planes[:2]): cine(tmp_path/f'IM{i + 1}', p)
    s = views.measure_study(tmp_path, model, sees(**known), atrium=False, progress=False)
    assert s.pair is None and said in s.doubts[0] and np.isfinite(s.ef) == ('only' in said)
    page, _ = views.write_study(s, tmp_path/'out')
    assert said in page.read_text(encoding='utf-8')


def test_videos_without_headers_make_a_study_too(planes, tmp_path, model):
    for i, p in enumerate(planes[:2]): write_avi(tmp_path/f'IM{i + 1}.avi', p.clip.frames, fps=14)
    s = views.measure_study(tmp_path, model, sees(**VIEWS), atrium=False, progress=False)
    assert s.as_dict()['planes'] == 2 and s.as_dict()['edv_ml'] is None and np.isnan(s.surface_m2)


def test_views_that_are_not_as_said(planes):
    pair = views.biplane_ef(*(true_of(p) for p in planes[:2]))
    clips = [views.replace(p.clip, name=n) for n, p in zip(('IM1', 'IM1'), planes)]
    assert views.study_of_pair(clips, pair, sees(IM1='A4C')).doubts[0] == 'A2C: it looks like A4C'
    assert 'A4C: it looks like no apical view' in views.study_of_pair(clips, pair, sees(IM1='other')).doubts
    assert views.study_of_pair(clips, pair).doubts == pair.doubts


def test_the_atrium_of_the_simulator(planes):
    "Two planes of an ellipsoid cut off at the valve, against its volume by disks"
    a, b = (p.labels == 3 for p in planes[:2])
    mm = planes[0].clip.pixel_mm
    t = int(a.sum((1, 2)).argmax())
    one = views.atrial_volume(a, mm)
    assert one == pytest.approx(disk_volume(a[t], mm), rel=.15) and views.atrial_volume(a, mm, b, planes[1].clip.pixel_mm) == pytest.approx(one, rel=.25)


def test_a_damaged_header_is_one_file_less(planes, tmp_path):
    frames = planes[0].clip.frames[:4]
    write_dicom(tmp_path/'IM1', frames)
    data = write_dicom(tmp_path/'IM2', frames).read_bytes()
    at = data.index(b'\x28\x00\x08\x00IS')   # the number of frames
    (tmp_path/'IM2').write_bytes(data[:at + 8] + b'x ' + data[at + 10:])
    assert views.study_files(tmp_path).why.tolist() == ['', 'a damaged header']


def test_folders_that_hold_nothing(tmp_path, capsys):
    assert main(['study', str(tmp_path)]) == 2 and 'an empty folder' in capsys.readouterr().err
    assert main(['study', str(tmp_path/'no')]) == 2 and 'no such folder' in capsys.readouterr().err


@pytest.mark.parametrize('rel, shown', [
    ('DICOM/S0001/IM_0003', 'DICOM/S0001/IM_0003'), ('Mustermann/IM1.dcm', '…/IM1.dcm'), ('a/Erika 4C.avi', 'a/file 7.avi'),
    ('123456789/1', '…/1'), ('778899.dcm', 'file 7.dcm'), ('S1/1.2.840.113619.2.55', 'S1/file 7'), ('12345', 'file 7')])
def test_names_of_files_tell_nothing(rel, shown):
    assert views._shown_name(views.Path(rel), 7, {'12345'}) == shown


def test_the_short_clip_steps_back(model, planes, tmp_path):
    cine(tmp_path/'IM1', planes[0]); cine(tmp_path/'IM2', planes[1]); cine(tmp_path/'IM4', plane(0., foreshorten=26.))
    s = views.measure_study(tmp_path, model, sees(**VIEWS, IM4='A4C'), atrium=False, progress=False)
    assert s.best('A4C')['name'] == 'IM1' and len(s.recordings) == 3


def test_two_planes_on_the_command_line(planes, tmp_path, capsys):
    for name, p in zip(('four', 'two'), planes): write_avi(tmp_path/f'{name}.avi', p.clip.frames, fps=14)
    args = ['ef', str(tmp_path/'four.avi'), '--a2c', str(tmp_path/'two.avi'), '--out', str(tmp_path/'out'), '--angle', '60']
    assert main(args) == 0
    said = capsys.readouterr().out
    assert '(biplane)' in said and 'A4C alone' in said and 'A2C alone' in said
    assert json.loads((tmp_path/'out'/'four_biplane.json').read_text())['planes'] == 2
    assert main(args) == 2 and 'exists already' in capsys.readouterr().err
    assert main(['ef', 'a', 'b', '--a2c', 'c']) == 2


def test_a_view_that_is_not_sure_is_a_doubt(planes, tmp_path, model):
    cine(tmp_path/'IM1', planes[0]); cine(tmp_path/'IM2', planes[1])
    def classify(clip):
        view, p = dict(IM1=('A4C', .95), IM2=('A2C', .4))[clip.name]
        return SimpleNamespace(view=view, p={view: p}, mirrored=False, kind='')
    s = views.measure_study(tmp_path, model, classify, atrium=False, progress=False)
    assert 'A2C: its view is not sure (40%)' in s.doubts and not any('A4C: its view' in d for d in s.doubts)


@pytest.mark.parametrize('p, found', [(dict(A3C=.5, A2C=.4), True), (dict(A3C=.8, A2C=.15), False)])
def test_a_two_chamber_view_that_is_nearly_called_so(planes, tmp_path, model, p, found):
    cine(tmp_path/'IM1', planes[0]); cine(tmp_path/'IM2', planes[1])
    def classify(clip):
        return SimpleNamespace(view=dict(IM1='A4C', IM2='A3C')[clip.name], p=dict(IM1=dict(A4C=.9), IM2=p)[clip.name], mirrored=False, kind='')
    s = views.measure_study(tmp_path, model, classify, atrium=False, progress=False)
    assert (s.pair is not None) == found and ('A2C: its view is not sure (40%)' in s.doubts) == found, s.summary()


def test_atria_that_disagree_are_doubted():
    def clip(name): return dict(clip=Clip(np.zeros((1, 80, 80), np.uint8), 30., name, pixel_mm=(1., 1.)))
    def balls(**radii): return lambda c: (np.hypot(*(np.mgrid[:80, :80] - 40)) < radii[c.name])[None]
    both = [clip('a4c'), clip('a2c')]
    ml, doubts = views._atrium_of(both, balls(a4c=20, a2c=20))
    assert ml == pytest.approx(4/3*np.pi*2**3, rel=.05) and doubts == ()
    ml, doubts = views._atrium_of(both, balls(a4c=20, a2c=26))
    assert len(doubts) == 1 and '34 mL by A4C alone' in doubts[0]
    assert views._atrium_of([both[0], None], balls(a4c=20))[1] == () and views._atrium_of(both, False)[1] == ()
