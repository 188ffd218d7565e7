"""Makes everything that lesson 11 and the intervals of the package rest on, anew, for the weights that the package carries:

    python scripts/trust_tables.py --real FOLDER [--decoys FOLDER] [--clips 600] [--each 50]

Measures phantoms, decoys and, where named, real recordings (CAMUS; of these only figures are kept, no picture and no row a
patient), and writes beside the weights quick_calibration.json and the tables trust_*.csv. What was measured is kept in
--cache by the fingerprint of the weights, so that a run that was stopped goes on; `--tables` alone makes the tables from it.
Seeds are fixed. With `--clips 60 --each 4 --labels 0` it takes minutes, as it stands some hours on two cores."""
import argparse
import hashlib
import json
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from echomotion.data import example_clip, read_clip, show_progress, whole_file
from echomotion.ef import (EVIDENCE, Calibration, clip_ef, disk_volume, ef_evidence, ejection_fraction, frame_noise, motion_signs, needed_clips, outside_doubts, recording_signs, weights_stamp,
                           why_not_apical, why_still, _as_seen, _beat_views, _curve_doubts, _edge_doubt, _USUAL_BEND)
from echomotion.evaluate import interval_coverage
from echomotion.phantom import PhantomBatches, draw_parameters, phantom_clip, write_phantom_dataset
from echomotion.real import outlined_clips, _ef_of
from echomotion.train import dice, load_model
from echomotion.trust import (FAULTS, SUBGROUPS, beat_shape_ef, calibration_error, calibration_from, check_tracings,
                              doubt_lift, dropout_probabilities, ef_spread, generalised_cross_entropy, intervals_of, learn_apical,
                              learn_places, reliability, repeated_coverage, risk_area, risk_coverage, sampled_curve, soft_labels,
                              spoil_tracings, subgroup, _at_size, _place_and_width)
from echomotion.unet import UNet
from echomotion.views import DECOYS, decoy_clip, error_gain, view_verdict

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT/'echomotion'/'weights'
SEED = 61_000_000   # of the phantoms: hearts that no training met
KINDS = 'typical', 'hard'
PARTS = 'learn', 'calibrate', 'test'
REPEATS = 2000   # random halves: over 200 the mean still moves by a point


class Records:
    "What was measured, a file a recording"
    def __init__(self, cache, model):
        limits = hashlib.sha256(repr((model.info.get('trained'), _USUAL_BEND)).encode()).hexdigest()[:6]   # doubts hang on them
        self.model, self.folder = model, Path(cache)/f'{weights_stamp(model)}-{limits}'
        self.folder.mkdir(parents=True, exist_ok=True)
        info = {k: v for k, v in model.info.items() if k != 'trained'}
        self.usual, self.plain = model.info.get('trained'), replace(model, info=info)   # the signs are made once, below

    def path(self, kind, name): return self.folder/f'{kind}_{name}.npz'

    def keep(self, kind, name, read, arrays_too=True):
        "Measure a recording unless that was done; `read()` gives the clip, its true EF, its true masks and further columns"
        path = self.path(kind, name)
        if path.exists(): return
        clip, ef_true, masks, more = read()
        began = time.perf_counter()
        result, signs = clip_ef(clip, self.plain, calibration=False), recording_signs(clip, self.model)
        if self.usual and np.isfinite(result.ef): result = replace(result, doubts=(*result.doubts, *outside_doubts(signs, self.usual)))
        row = dict(name=str(name), kind=kind, ef_true=float(ef_true), ef=float(result.ef), n_frames=len(clip), doubts=list(result.doubts),
                   tremble=frame_noise(result.area) if np.isfinite(result.area).any() else 0., **{f's_{k}': v for k, v in signs.items()},
                   bend=float(np.nanmedian(result.bend)) if result.bend is not None else 0.,
                   **motion_signs(clip.frames), seconds=time.perf_counter() - began, view=view_verdict(clip)[0], **more)
        arrays = {}
        if np.isfinite(result.ef):
            p = _beat_views(clip, result, self.model)
            row['evidence'] = ef_evidence(clip, result, self.model, signs, p)
            row['doubts'] += _edge_doubt(row['evidence'], self.usual)
            row['seen'] = [d for d in row['doubts'] if d not in _curve_doubts(result)]   # what stills can tell
            at = [int(result.beats.ed.iloc[0]), int(result.beats.es.iloc[0])]
            if arrays_too:
                arrays = dict(p=p[:, [0, p.shape[1]//2]].astype(np.float16), x=_as_seen(clip, at, self.model.config.size))
                if masks is not None: arrays['truth'] = _at_size(clip, masks[at], self.model.config.size)
        with whole_file(path) as f, open(f, 'wb') as file: np.savez_compressed(file, row=json.dumps(row), **arrays)

    def rows(self, *kinds):
        "All rows of these kinds as a table, evidence and signs as columns"
        out = []
        for kind in kinds:
            for path in sorted(self.folder.glob(f'{kind}_*.npz')):
                with np.load(path) as z: row = json.loads(str(z['row']))
                evidence = row.pop('evidence', {})
                if row['n_frames'] < 8: row.update(moves=1., shift=1.)   # of a pair of stills nothing is said
                signs = {k[2:]: v for k, v in row.items() if k.startswith('s_')}
                why = '' if evidence and not why_still(row) else why_still(row) or row['doubts'][0]
                out.append({**signs, **row, **evidence, 'doubts_said': '; '.join(row['doubts']), 'why': why, 'path': str(path)})
        return pd.DataFrame(out)


def measure_phantoms(records, n):
    def read(i):
        p = phantom_clip(SEED + i, difficulty=KINDS[i % 2], n_frames=26, ranges=dict(fps=(20, 30)))
        parts = {f'p_{k}': float(v) for part in (p.heart, p.view, p.scanner) for k, v in asdict(part).items()}
        return p.clip, p.ef, p.masks, dict(edv=p.edv, esv=p.esv, **parts)
    for i in show_progress(range(n), comment='phantoms'): records.keep(KINDS[i % 2], i, lambda: read(i))


def measure_decoys(records, each):
    for i in show_progress(range(each), comment='decoys'):
        for kind in DECOYS:
            name = f'{kind}{i}'.replace(' ', '_').replace(',', '')
            records.keep('decoy', name, lambda: (decoy_clip(kind, i, 16), np.nan, None, dict(decoy=kind)), False)


def measure_real(records, folder, decoys):
    for name, read in show_progress(list(outlined_clips(folder).items()), comment='real hearts'):
        def one():
            o = read()
            return o.clip, _ef_of(o.masks, o), None, {}
        records.keep('camus', name, one, False)
    records.keep('realcine', 'cine', lambda: (example_clip(), np.nan, None, {}), False)
    for path in sorted(Path(decoys).iterdir()) if decoys else ():
        def one():
            clip = read_clip(path)
            return replace(clip, frames=clip.frames[:40], times=None), np.nan, None, dict(decoy=path.stem)
        try: records.keep('decoyreal', path.stem, one, False)
        except ValueError: pass   # a file that is refused while it is read has no EF either


def evidence_table(records):
    "The rows of the phantoms that got an EF, as they travel with the package"
    t = records.rows(*KINDS)
    t = t[(t.why == '') & t.ef.notna()].copy()
    t[list(EVIDENCE)] = t[list(EVIDENCE)].astype(float)   # of what got no EF `doubts` were words
    t['index'] = t.name.astype(int)
    t = t.sort_values('index')
    t['part'] = [PARTS[i//2 % 3] for i in t['index']]
    shown = ['gain', 'depth', 'harmonic', 'beam_deg', 'gamma', 'foreshorten']
    t = t.rename(columns={f'p_{k}': k for k in shown})
    return t[['name', 'kind', 'part', 'ef_true', *EVIDENCE, 'edv', *shown, 'doubts_said', 'path']]


def write(name, table):
    with whole_file(OUT/f'trust_{name}.csv') as f: table.to_csv(f, index=False, float_format='%.4f')
    print(f'\ntrust_{name}.csv\n{table.head(24).round(3).to_string(index=False)}', flush=True)


def apical_of(records, table):
    "What is refused, learnt on phantoms and on every decoy that got an EF"
    hearts, decoys = records.rows(*KINDS), records.rows('decoy')
    hearts = hearts[hearts.why == '']
    wrong = decoys[decoys.why == ''] if len(decoys) else decoys
    return hearts, decoys, (learn_apical(hearts, wrong) if len(wrong) > 4 else {})


def refusals(records, hearts, decoys, apical):
    "A row a kind: how many got no outline; refused by the signs where they were learnt without that kind, by the view, and as it ships"
    signs = lambda t, a: np.array([bool(r['why'] or why_not_apical(r, a)) for r in t.to_dict('records')])
    refused = lambda t: signs(t, apical) | (t.view != '')
    rows = []
    for kind in DECOYS if len(decoys) else ():
        of = decoys[decoys.decoy == kind]; others = decoys[(decoys.decoy != kind) & (decoys.why == '')]
        unseen = learn_apical(hearts, others) if len(others) > 4 else {}
        rows.append(dict(kind=kind, heart=0, clips=len(of), no_outline=int((of.why != '').sum()), unseen=signs(of, unseen).mean(), by_view=(of.view != '').mean(), refused=refused(of).mean()))
    for kind, word in (('decoyreal', 'real: no heart'), ('typical', 'phantoms, typical'), ('hard', 'phantoms, hard'),
                       ('camus', 'real: CAMUS, apical'), ('echonet', 'real: EchoNet-Dynamic'), ('realcine', 'real: the cine of pydicom')):
        of = records.rows(kind)
        if len(of): rows.append(dict(kind=word, heart=int(kind != 'decoyreal'), clips=len(of), no_outline=int((of.why != '').sum()), unseen=np.nan, by_view=(of.view != '').mean(), refused=refused(of).mean()))
    return pd.DataFrame(rows)


def shipped_places(table):
    "What the package's calibration is made from: hard pictures alone, as a real heart is more like these than like a typical one"
    hard = table[table.kind == 'hard']
    return learn_places(hard[hard.part == 'learn']), hard[hard.part != 'learn']


def coverage(records, table, places, level=.9):
    "Random halves of phantoms and of real hearts; a set that is too small is left out"
    rows, unseen = [], table[table.part != 'learn']
    def add(name, t, places, every=True, follow=False):
        if len(t)//2 < needed_clips(level): return print(f'{name}: {len(t)} clips are too few')
        found = repeated_coverage(t, places, level, REPEATS, follow=follow)
        rows.append((found if every else found[found.subgroup == 'all']).assign(set=name))
    add('phantoms, typical and hard', unseen, places)
    for kind in KINDS: add(f'phantoms, {kind}, calibrated on their own', unseen[unseen.kind == kind], places, False)
    add('phantoms, one width for all', unseen, learn_places(table[table.part == 'learn'], ()), False)
    real = records.rows('camus')
    if len(real):
        real = real[(real.why == '') & real.ef_true.notna()].copy()
        shipped, hard = shipped_places(table)
        add('CAMUS, calibrated on half of them', real, shipped, follow=True)
        add('CAMUS, the centre left where phantoms put it', real, shipped)
        add('CAMUS, one width for all', real, learn_places(table[table.part == 'learn'], ()), False)
        for name, c in (('CAMUS, calibrated on hard phantoms: as the package comes', calibration_from(hard, shipped, '')),
                        ('CAMUS, calibrated on all phantoms', calibration_from(unseen, places, ''))):
            for group in SUBGROUPS:
                of = real[subgroup(real, group)]
                if len(of) >= 5: rows.append(pd.DataFrame([_covered(name, group, of, c, level)]))
    return pd.concat(rows)[['set', 'subgroup', 'clips', 'coverage', 'low', 'high', 'width']]


def _covered(name, group, of, calibration, level):
    "The row of a set that had no say in the calibration"
    c = interval_coverage(of.ef_true, *intervals_of(of, calibration, level).T)
    return dict(set=name, subgroup=group, clips=c['n'], **{k: c[k] for k in ('coverage', 'low', 'high', 'width')})


def members(model, n=3, steps=40, seed=7):
    "Networks of their own, each trained on from the weights on other phantoms in another order (batch statistics kept)"
    import copy
    out = []
    for k in range(n):
        torch.manual_seed(seed + k)
        net = copy.deepcopy(model.net).train()
        for m in net.modules():
            if isinstance(m, torch.nn.modules.batchnorm._BatchNorm): m.eval()
        optimiser = torch.optim.Adam(net.parameters(), 3e-4)
        batches = PhantomBatches(steps, 16, model.config.size, seed + k, 'wide')
        for i in show_progress(range(steps), comment=f'network {k + 1}'):
            x, y = batches[i]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net((x/255 - model.mean)/model.std)[:, 0], y.float())
            optimiser.zero_grad(); loss.backward(); optimiser.step()
        out.append(replace(model, net=net))
    return out


def risk(table, places, model, most, n_members):
    "A row a kind of uncertainty: what it spares, how well its probabilities are calibrated, what it costs; and their reliability diagrams"
    t = table[table.part != 'learn'].head(most)
    miss = (t.ef - t.ef_true).abs().to_numpy()
    blank = Calibration(np.zeros(0), weights='', **places)
    kept = [dict(np.load(path)) for path in t.path]
    truth = np.concatenate([z['truth'] for z in kept])
    plain = np.concatenate([z['p'][0] for z in kept]).astype(np.float32)
    views = np.concatenate([z['p'].mean(0) for z in kept]).astype(np.float32)
    rows = [('chance', np.random.default_rng(0).random(len(t)), None, 0), ('probabilities: EF between the 30% and the 70% line', t.edge, plain, 1),
            ('probabilities: Dice that they expect', 1 - t.sure, plain, 1), ('test-time augmentation: spread of EF', t.views, views, 5),
            ('test-time augmentation: overlap', 1 - t.agree, views, 5), ('number of doubts', t.doubts, None, 0),
            ('distance from the looks trained on', t.far, None, 1), ('width of the interval (the default)', [_place_and_width(r, blank)[1] for r in t.to_dict('records')], views, 5)]
    opinions = {'Monte Carlo dropout (8 times, untrained for it)': (lambda x: dropout_probabilities(x, model), 8)}
    if n_members:
        nets = [model, *members(model, n_members)]
        opinions[f'ensemble of {len(nets)} (trained on from one)'] = (lambda x: np.stack([m.predict(x) for m in nets]), len(nets))
    for word, (ask, cost) in opinions.items():
        said = [ask(z['x']) for z in show_progress(kept, comment=word)]
        rows.append((word, [ef_spread(s) for s in said], np.concatenate([s.mean(0) for s in said]), cost))
    x = np.concatenate([z['x'] for z in kept])[:64]
    began = time.perf_counter(); model.predict(x); speed = len(x)/(time.perf_counter() - began)
    one = lambda word, u, p, cost: dict(uncertainty=word, clips=len(t), area=risk_area(miss, u), error_all=miss.mean(), error_80=risk_coverage(miss, u).error.iloc[int(.8*len(t)) - 1],
                                        pixels_off=calibration_error(reliability(p, truth)) if p is not None else np.nan, frames=cost, frames_a_second=speed/cost if cost else np.nan)
    shown = {'probabilities as they are': plain, 'test-time augmentation': views} | {r[0].split(' (')[0]: r[2] for r in rows[-len(opinions):]}
    return pd.DataFrame([one(*r) for r in rows]), pd.concat([reliability(p, truth).assign(network=word) for word, p in shown.items()])


def blur(n=60):
    "Bias and mean error of EF from sampled and smeared true volume curves, without and with the correction"
    rows, hearts = [], [draw_parameters(SEED + 10_000 + i, 'typical')[0] for i in range(n)]
    hearts = [replace(h, rr_var=min(h.rr_var, .03), ectopic=0., ef_var=0.) for h in hearts]
    for rate in (60, 90, 130):
        for fps in (10, 15, 20, 30, 50, 90):
            for exposure in (0., .5, 1.):
                rng, e = np.random.default_rng(1), []
                for i, heart in enumerate(hearts):
                    heart = replace(heart, heart_rate=float(rate))
                    curve = sampled_curve(heart, fps, exposure, seed=i)
                    curve = curve*(1 + .01*rng.normal(size=len(curve)))
                    e.append([beat_shape_ef(curve, fps, 0.) - heart.ef, beat_shape_ef(curve, fps, exposure) - heart.ef])
                e = np.array(e); gain = np.abs(e[:, 0]) - np.abs(e[:, 1])
                rows.append(dict(heart_rate=rate, fps=fps, exposure=exposure, bias=np.nanmean(e[:, 0]), bias_shape=np.nanmean(e[:, 1]), mae=np.nanmean(np.abs(e[:, 0])),
                                 mae_shape=np.nanmean(np.abs(e[:, 1])), gain=np.nanmean(gain), gain_se=np.nanstd(gain)/np.sqrt(np.isfinite(gain).sum())))
    return pd.DataFrame(rows)


def spoilt_recordings(p, seed):
    "A recording as it is, cut to less than a beat at any place, and mirrored: what two of the doubts are said for"
    rng, n, sector = np.random.default_rng(seed), len(p.clip), p.clip.sector
    k = int(np.clip(rng.uniform(.3, 1.)*p.clip.fps*60/p.heart.heart_rate, 8, n))
    first = rng.integers(0, n - k + 1)
    yield 'whole', p.clip
    yield 'cut', replace(p.clip, frames=p.clip.frames[first:first + k])
    yield 'mirrored', replace(p.clip, frames=p.clip.frames[..., ::-1].copy(), sector=None if sector is None else sector[:, ::-1].copy())


def with_ef(records, *kinds):
    "The hearts that get an EF, and by how much it misses"
    t = records.rows(*kinds)
    t = t[np.isfinite(t.ef.astype(float)) & np.isfinite(t.ef_true)]
    return t, (t.ef - t.ef_true).abs()


def limit_before(t, error):
    "The lift of an unusual outline as it was said before patients had judged it: from 2.2 SD"
    return doubt_lift(np.where(t.bend > 2.2, 'an unusual outline, by the limit of before', ''), error).iloc[1:]


def doubts_on_patients(records, fewest=5):
    "`doubt_lift` on CAMUS; what two frames cannot tell is left out, and what was said of a handful of patients"
    t, error = with_ef(records, 'camus')
    said = doubt_lift(t.seen.str.join('; '), error)
    return pd.concat([said[said.clips >= fewest], limit_before(t, error)])


def signs_of_error(records):
    "How the evidence, and how far the shape bends, goes with the error of EF: rank correlations on phantoms and on CAMUS"
    hearts, patients = with_ef(records, 'typical', 'hard'), with_ef(records, 'camus')
    signs = [k for k in (*EVIDENCE, 'bend') if k not in ('doubts', 'beats', 'sparse', 'tremble')]   # those need a clip
    return pd.DataFrame([dict(sign=k, **{word: spearmanr(t[k], e).statistic for word, (t, e) in (('phantoms', hearts), ('patients', patients))})
                         for k in signs])


INSURED = ('cut', 'less than one beat'), ('mirrored', 'the ventricle may lie on the left'), ('mirrored', 'read mirrored')

def insurance(records, n=200):
    "What recordings that are cut short, or mirrored, cost where a doubt says so: each beside the same heart's whole recording"
    folder, model, hearts, rows = records.folder/'insurance', records.model, [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i in show_progress(range(n), comment='cut and mirrored'):
        path = folder/f'{i}.json'
        if not path.exists():
            p = phantom_clip(SEED + 20_000 + i, difficulty=KINDS[i % 2], n_frames=26, ranges=dict(fps=(20, 30)))
            found = [(kind, clip_ef(clip, model, calibration=False)) for kind, clip in spoilt_recordings(p, i)]
            with whole_file(path) as f: Path(f).write_text(json.dumps([dict(kind=kind, miss=abs(r.ef - p.ef), said='; '.join(r.doubts)) for kind, r in found]))
        hearts.append({r['kind']: r for r in json.loads(path.read_text())})
    for kind, doubt in INSURED:
        pairs = np.array([(h[kind]['miss'], h['whole']['miss']) for h in hearts if doubt in h[kind]['said']])
        spoilt, whole = pairs[np.isfinite(pairs).all(1)].T
        more, low, high = error_gain(spoilt, whole)
        rows.append(dict(recordings=kind, doubt=doubt, hearts=len(whole), miss_whole=whole.mean(), miss_spoilt=spoilt.mean(), more=more, low=low, high=high))
    return pd.DataFrame(rows)


def check(cache, model, n=200, share=.05, rounds=10):
    "A row a fault: how many of the planted tracings lie in the first `share` of the list, over some plantings"
    data = write_phantom_dataset(Path(cache)/f'traced{n}', dict(TRAIN=n), n_frames=16, seed=SEED//10**6, workers=1)
    rows = []
    for seed in range(rounds):
        spoilt, planted = spoil_tracings(data, share, seed=seed)
        suspects = check_tracings(spoilt, model, progress=False)
        top = set(zip(suspects.name[:round(share*len(suspects))], suspects.frame[:round(share*len(suspects))]))
        names = {name for name, _ in top}
        rows += [dict(r, round=seed, found=(r['name'], r['frame']) in top, hit=r['name'] in names) for r in planted.to_dict('records')]
    t = pd.DataFrame(rows)
    return pd.DataFrame([_found_row(fault, t if fault == 'all' else t[t.fault == fault]) for fault in (*FAULTS[3:], 'all')])


def _found_row(fault, t):
    "Of a fault: how many of its tracings, and of the clips that have it, lie in the first part of the list"
    clips = t.groupby(['round', 'name']).hit.max()
    return dict(fault=fault, tracings=len(t), found=t.found.mean(), clips=len(clips), clips_found=clips.mean())


def labels(cache, seeds=3, n=600, size=64, steps=300):
    "Tiny networks on few pictures with wrong outlines, and with remedies: Dice against true masks, EF error between ED and ES"
    data = write_phantom_dataset(Path(cache)/'labels', dict(TRAIN=n//2, VAL=80), size=size, n_frames=16, seed=77, workers=1)
    val, rows = pairs_of(data, 'VAL', size), []
    for seed in range(seeds):
        for strength in (0., .5, 1., 1.5, 2.):
            spoilt = data if not strength else spoil_tracings(data, .33, FAULTS, strength, seed)[0]
            x, y = pairs_of(spoilt, 'TRAIN', size, tracings=True)
            for remedy in REMEDIES if strength in (0., 1., 2.) else REMEDIES[:1]:
                done = Path(cache)/'labels'/f'{steps}_{seed}_{strength}_{remedy}.json'.replace(' ', '_')
                if not done.exists():
                    result = trained(x, y, val, remedy, seed, steps, data, strength)
                    with whole_file(done) as f: Path(f).write_text(json.dumps(result))
                rows.append(dict(strength=strength, remedy=remedy, seed=seed, **json.loads(done.read_text())))
        write('labels', label_table(pd.DataFrame(rows)))


REMEDIES = 'none', 'soft labels', 'mean of three readers', 'generalised cross-entropy', 'confident learning', 'ED larger than ES'


def label_table(t):
    "A row a strength and remedy: means over seeds, and what the remedy gained, pair by pair"
    base = t[t.remedy == 'none'].set_index(['strength', 'seed'])
    for k in ('dice', 'ef_error'): t[f'{k}_gain'] = [r[k] - base.loc[(r['strength'], r['seed']), k] for r in t.to_dict('records')]
    return t.groupby(['strength', 'remedy'], sort=False).agg(
        seeds=('seed', 'count'), dice=('dice', 'mean'), ef_error=('ef_error', 'mean'), dice_gain=('dice_gain', 'mean'),
        dice_gain_sd=('dice_gain', 'std'), ef_error_gain=('ef_error_gain', 'mean')).reset_index()


def pairs_of(data, split, size, tracings=False):
    "Pictures and masks of ED and ES, in pairs: uint8 (2N, S, S), bool (2N, S, S)"
    x, y = [], []
    for name in data.names(split):
        clip, frames = data.clip(name), data.ed_es(name)
        x += [clip.frames[t] for t in frames]
        y += [data.mask(name, t) for t in frames] if tracings else list(data.true_masks(name)[list(frames)])
    return np.stack(x), np.stack(y)


def trained(x, y, val, remedy, seed, steps, data, strength):
    "Train a tiny U-Net and measure it"
    torch.manual_seed(seed)
    target, keep, loss_of = y.astype(np.float32), np.ones(len(x), bool), torch.nn.functional.binary_cross_entropy_with_logits
    if remedy == 'soft labels': target = soft_labels(y, 1.2)
    if remedy == 'mean of three readers':
        others = [data if not strength else spoil_tracings(data, .33, FAULTS, strength, 1000 + 10*seed + k)[0] for k in range(2)]
        target = np.mean([target, *[pairs_of(o, 'TRAIN', x.shape[1], True)[1] for o in others]], 0, dtype=np.float32)
    if remedy == 'generalised cross-entropy': loss_of = generalised_cross_entropy
    if remedy == 'confident learning': keep = least_suspicious(x, y, seed, steps//2)
    net = fit(x[keep], target[keep], seed, steps, loss_of, pairs=remedy == 'ED larger than ES')
    p = said(net, val[0]); found = p > .5
    ef = lambda m: np.array([float(ejection_fraction(disk_volume(a), disk_volume(b))) for a, b in zip(m[::2], m[1::2])])
    miss = np.abs(ef(found) - ef(val[1]))
    return dict(dice=float(dice(found, val[1]).mean()), ef_error=float(np.nanmean(miss)), no_ef=int(np.isnan(miss).sum()))


def fit(x, target, seed, steps, loss_of, pairs=False, bs=16):
    torch.manual_seed(seed); rng = np.random.default_rng(seed)
    net = UNet(6, 3).to(memory_format=torch.channels_last).train(); optimiser = torch.optim.Adam(net.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        i = rng.choice(len(x)//2, bs//2)*2 if pairs else rng.choice(len(x), bs)
        i = np.stack([i, i + 1], 1).ravel() if pairs else i
        out = net(seen_by(x[i]))[:, 0]; y = torch.from_numpy(target[i])
        loss = loss_of(out, y)
        if pairs:   # of a pair the cavity at ES may not reach beyond the one at ED by much
            area = torch.sigmoid(out).mean((1, 2)); loss = loss + 5*torch.relu(area[1::2] - .95*area[::2]).mean()
        optimiser.zero_grad(); loss.backward(); optimiser.step(); schedule.step()
    return net.eval()


def seen_by(x):
    return ((torch.from_numpy(x)[:, None].float()/255 - .15)/.2).contiguous(memory_format=torch.channels_last)


def said(net, x):
    with torch.inference_mode(): return torch.sigmoid(net(seen_by(x)))[:, 0].numpy()


def least_suspicious(x, y, seed, steps, share=.15):
    "Cross-fitted: half of the pairs teaches a network that judges the other half; the worst tracings are left out"
    half, score = np.arange(len(x))//2 % 2 == 0, np.zeros(len(x))
    for a in (half, ~half):
        net = fit(x[a], y[a].astype(np.float32), seed, steps, torch.nn.functional.binary_cross_entropy_with_logits)
        score[~a] = dice(said(net, x[~a]) > .5, y[~a])
    return score > np.quantile(score, share)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--real'); parser.add_argument('--decoys')
    parser.add_argument('--cache', default='runs/trust')
    parser.add_argument('--clips', type=int, default=600); parser.add_argument('--each', type=int, default=50)
    parser.add_argument('--most', type=int, default=200, help='clips on which dropout and ensemble are tried')
    parser.add_argument('--members', type=int, default=3); parser.add_argument('--traced', type=int, default=200)
    parser.add_argument('--rounds', type=int, default=10, help='plantings of wrong tracings')
    parser.add_argument('--labels', type=int, default=3, help='seeds of the trainings with wrong labels; 0: leave that table')
    parser.add_argument('--steps', type=int, default=300, help='of those trainings')
    parser.add_argument('--tables', action='store_true', help='measure nothing new')
    parser.add_argument('--only', nargs='+', help='some of: evidence coverage risk refusals doubts insurance blur check labels')
    a = parser.parse_args()
    warnings.filterwarnings('ignore')
    model = load_model(); records = Records(a.cache, model)
    wanted = lambda name: not a.only or name in a.only
    if not a.tables:
        measure_phantoms(records, a.clips); measure_decoys(records, a.each)
        if a.real: measure_real(records, a.real, a.decoys)
    table = evidence_table(records); places = learn_places(table[table.part == 'learn'])
    hearts, decoys, apical = apical_of(records, table)
    shipped, rest = shipped_places(table)
    calibration_from(rest, shipped, weights_stamp(model), f'{len(rest)} simulated hearts, hard pictures', apical).save(OUT/'quick_calibration.json')
    if wanted('evidence'): write('evidence', table.drop(columns=['doubts_said', 'path']))
    if wanted('coverage'): write('coverage', coverage(records, table, places))
    if wanted('refusals'): write('refusals', refusals(records, hearts, decoys, apical))
    if wanted('doubts'):
        error = (table.ef - table.ef_true).abs()
        write('doubts', pd.concat([doubt_lift(table.doubts_said, error), limit_before(*with_ef(records, *KINDS))]))
        write('doubts_real', doubts_on_patients(records)); write('signs', signs_of_error(records))
    if wanted('insurance'): write('insurance', insurance(records))
    if wanted('blur'): write('blur', blur())
    if wanted('risk'):
        spared, honest = risk(table, places, model, a.most, a.members)
        write('risk', spared); write('reliability', honest)
    if wanted('check'): write('check', check(a.cache, model, a.traced, rounds=a.rounds))
    if wanted('labels') and a.labels: labels(a.cache, a.labels, steps=a.steps)


if __name__ == '__main__': main()
