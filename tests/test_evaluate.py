"""Figures of merit, doubts and pages: what no lesson would show"""
import re

import numpy as np
import pytest
from exports import ROOT

from echomotion.data import Clip
from echomotion.ef import measure_ef
from echomotion.evaluate import _page, bootstrap, doubt_scores, ef_metrics, write_clip_report


def by_hand(fn, true, pred, patient, n, seed):
    "The percentile bootstrap by patient, written out"
    rows, rng = [np.flatnonzero(patient == p) for p in np.unique(patient)], np.random.default_rng(seed)
    draws = []
    for _ in range(n):
        i = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        draws.append(list(fn(true[i], pred[i]).values()))
    return np.nanpercentile(draws, [2.5, 97.5], axis=0).T


@pytest.mark.parametrize('seed', [0, 7])
def test_scipys_bootstrap_draws_patients_as_ours_did(seed):
    rng = np.random.default_rng(1)
    true, patient = rng.uniform(25, 70, 40), np.arange(40)//2
    pred = true + rng.normal(1, 5, 40)
    found, wanted = bootstrap(ef_metrics, true, pred, patient=patient, n=60, seed=seed), by_hand(ef_metrics, true, pred, patient, 60, seed)
    for (name, figure), ends in zip(found.items(), wanted): assert np.allclose(figure[1:], ends, atol=1e-9), name


def test_a_class_that_many_draws_lack_has_no_interval():
    true = np.array([30., *np.linspace(55, 70, 19)])   # one patient below 50: more than a third of the draws lack them
    found = bootstrap(ef_metrics, true, true + 1, n=200)
    assert found['auc_50'][0] == 1 and np.isnan(found['auc_50'][1:]).all() and np.isfinite(found['mae']).all()


def test_doubts_are_counted_by_kind():
    doubts = ['area jumps in 3 of 40 frames (by up to 14%); frame rate unknown', 'area jumps in 9 of 51 frames (by up to 20.5%)', '', '']
    table = doubt_scores(doubts, [True, True, True, False]).set_index('doubt')
    jumps = table.loc['area jumps in n of n frames (by up to n%)']
    assert list(table.index) == ['any doubt', jumps.name, 'frame rate unknown']
    assert jumps[['clips', 'wrong', 'missed', 'false']].tolist() == [2, 2, 1, 0] and jumps.lift == pytest.approx(4/3)
    assert np.isnan(doubt_scores(['', ''], [False, False]).lift).all(), 'nothing wrong, nothing to name'
    assert len(doubt_scores([], [])) == 1


def test_a_page_escapes_and_knows_its_names(tmp_path):
    clip = Clip(np.zeros((12, 40, 40), np.uint8), fps=40., name='<script>alert(1)</script>', notes=('<b>note',))
    page = write_clip_report(tmp_path/'page.html', clip, measure_ef(np.zeros((12, 40, 40), bool), 40)).read_text()
    assert '<script' not in page and '<b>note' not in page and '&lt;b&gt;note' in page and 'no LV: found in 0 of 12 frames' in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), 'nothing is fetched from elsewhere'
    with pytest.raises(Exception, match='is undefined'): _page('recording.html.j2', title='no recording')


def test_templates_ship_with_the_package():
    "Jinja2 finds them in the installed package only if setup.py and MANIFEST.in name them"
    assert "'templates/*'" in (ROOT/'setup.py').read_text() and 'echomotion/templates' in (ROOT/'MANIFEST.in').read_text()
    assert 'jinja2' in (ROOT/'settings.ini').read_text().lower().split('\nrequirements = ')[1].split('\n')[0]
