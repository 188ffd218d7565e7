"""Measuring an archive: whatever happens on the way, in the end every clip has one row, and the same one.

ECHOMOTION_ARCHIVE_KILLS=20 and ECHOMOTION_ARCHIVE_CLIPS=5000 run the full sizes (some minutes); without them it is less of the same.
"""
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archive_fake import Fake, measure, serve
from exports import ROOT

pytest.importorskip('distributed', reason='pip install echomotion[archive]')
pytest.importorskip('pyarrow', reason='pip install echomotion[archive]')
import psutil

from echomotion import archive
from echomotion.archive import ResultsFolder, archive_clips, engine_cost, local_cluster, measure_archive, public_path, read_archive, slurm_cluster

KILLS = int(os.environ.get('ECHOMOTION_ARCHIVE_KILLS', 4))    # of workers, and a fifth of them of whole runs, at random moments
CLIPS = int(os.environ.get('ECHOMOTION_ARCHIVE_CLIPS', 250))  # over which the memory shall not grow
PATHS = os.pathsep.join([str(ROOT), str(ROOT/'tests'), os.environ.get('PYTHONPATH', '')])   # of processes that are started here


def write_clips(folder, n, first=0):
    "n recordings, no two alike, of three sizes"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + n):
        a = np.full((4 + i % 3, 8, 8), i % 97, np.uint8); a[0, 0, 0] = i // 97
        np.save(folder/f'clip{i:03}.npy', a)
    return folder


def rows(table):
    "A table without what may differ between two runs, as text"
    return table.drop(columns=['seconds', 'stamp']).to_csv(index=False)


def measured(log): return Path(log).read_text().split() if Path(log).exists() else []


@pytest.fixture(scope='module')
def cluster():
    with local_cluster(2) as c: yield c


def test_a_cluster_leaves_the_environment_as_it_was(monkeypatch):
    "Dask's OMP_NUM_THREADS=1 would stay for every program that is started afterwards, a training among them"
    from distributed import Client
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)   # conftest.py sets it
    mine = lambda: {k: v for k, v in os.environ.items() if not k.startswith('__DASK')}
    own = mine()
    with local_cluster(1) as cluster, Client(cluster) as client:
        assert mine() == own
        first, = client.run(os.getpid).values()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: set(client.run(os.getpid, on_error='ignore').values()) - {first}, 60)   # another is there
        assert set(client.run(os.getenv, 'OMP_NUM_THREADS').values()) == {'1'}   # those who measure keep to one core
    assert mine() == own


def plain(clips, tmp_path):
    "The same archive, measured by a plain loop that nobody disturbs"
    return measure_archive(clips, tmp_path/'plain.parquet', workers=0, measure=Fake(tmp_path/'plain.log', 0), weights='w', progress=False)


def forked(work, *args):
    "A process that can be killed and comes at once: a copy of one that has everything imported, as Dask's workers are"
    from distributed.utils import get_mp_context
    p = get_mp_context().Process(target=work, args=args)
    p.start()
    return p


def start(clips, out, log, seconds):
    "A run with workers of its own, as the command is"
    script = out.parent/'run.py'
    script.write_text(textwrap.dedent(f'''
        from archive_fake import Fake
        if __name__ == '__main__':
            from echomotion.archive import measure_archive
            measure_archive({str(clips)!r}, {str(out)!r}, measure=Fake({str(log)!r}, {seconds}), weights='w', progress=False, workers=2)
            print('finished', flush=True)
    '''))
    env = {**os.environ, 'PYTHONPATH': PATHS}
    return subprocess.Popen([sys.executable, str(script)], env=env, start_new_session=True, stdout=subprocess.PIPE,
                            stderr=(out.parent/'errors.txt').open('a'), text=True)


def wait_for(condition, seconds=400, step=.02):
    until = time.time() + seconds
    while not condition():
        assert time.time() < until, 'it does not come'
        time.sleep(step)


def ended(process, seconds=600):
    out, _ = process.communicate(timeout=seconds)
    return process.returncode, out


def descendants(pid):
    try: return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess: return []


def worker_processes(pid):
    "Processes that Dask runs as workers: copies of the fork server on Linux, others elsewhere"
    def is_worker(p):
        try:
            words = ' '.join(p.cmdline())
            own = 'forkserver' in ' '.join(p.parent().cmdline()) if 'forkserver' in words else 'spawn_main' in words
            return own and p.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, AttributeError): return False
    return [p for p in descendants(pid) if is_worker(p)]


# ---------------------------------------------------------------- what a run leaves
def test_a_cluster_finds_what_a_plain_loop_finds(cluster, tmp_path):
    clips = write_clips(tmp_path/'clips', 25)
    out = measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    assert rows(out) == rows(plain(clips, tmp_path)) and (out.status == 'measured').all() and len(out) == 25
    assert sorted(measured(tmp_path/'log')) == sorted(p.name for p in clips.iterdir())
    import pandas as pd
    assert len(pd.read_parquet(tmp_path/'r.parquet')) == 25, 'other programs read the folder as one table'
    curves = pd.read_parquet(tmp_path/'r.parquet'/'_curves')
    assert len(curves) == 25 and list(curves.area[0]) == [1, 2] and np.isnan(curves.volume[0][1])


def test_the_same_command_does_nothing_and_other_weights_do_all(cluster, tmp_path):
    clips, log = write_clips(tmp_path/'clips', 6), tmp_path/'log'
    def run(weights): return measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, 0), weights=weights, progress=False)
    first = run('w'); n = len(measured(log))
    assert run('w').equals(first) and len(measured(log)) == n == 6
    run('other')
    assert len(measured(log)) == 12 and len(read_archive(tmp_path/'r.parquet', 'w')) == 6
    a = np.load(clips/'clip000.npy'); a[0, 0, 0] = 77; np.save(clips/'clip000.npy', a); os.utime(clips/'clip000.npy', (9, 9))
    again = run('w')
    assert measured(log)[12:] == ['clip000.npy'] and len(again) == 6 and again.ef[0] != first.ef[0]


def test_the_same_content_is_measured_once(cluster, tmp_path):
    clips, log = write_clips(tmp_path/'a', 4), tmp_path/'log'
    for k in range(5): shutil.copytree(clips, tmp_path/'b'/str(k))
    out = measure_archive([clips, tmp_path/'b'], tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, .05), weights='w', progress=False)
    assert len(out) == 24 and len(measured(log)) == 4, 'four contents under six names each'
    assert (out.same_as != '').sum() == 20 and (out.groupby('sha256').ef.nunique() == 1).all()
    assert set(out.same_as[out.same_as != '']) <= set(out.path[out.same_as == ''])
    shutil.copy(clips/'clip001.npy', clips/'later.npy')   # and a copy that comes a week later
    measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, .05), weights='w', progress=False)
    assert len(measured(log)) == 4


def test_what_lacked_memory_is_tried_again_and_what_is_damaged_is_not(cluster, tmp_path):
    clips, log = write_clips(tmp_path/'clips', 5), tmp_path/'log'
    (clips/'clip004.npy').rename(clips/'large.npy'); (clips/'bad.npy').write_bytes(b'no array')
    def run(**more): return measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, 0), weights='w', progress=False, **more)
    first = run().set_index(run().path.map(lambda p: Path(p).name))
    assert first.status['large.npy'] == 'lacking' and 'memory' in first.error['large.npy'] and first.status['bad.npy'] == 'failed'
    Path(str(log) + '.memory').touch(); before = len(measured(log))
    second = run()
    assert measured(log)[before:] == ['large.npy'] and len(second) == 6 and list(second.status).count('measured') == 5
    before = len(measured(log)); run(retry=True)
    assert measured(log)[before:] == ['bad.npy']


def test_five_percent_damaged_clips_stop_nothing(cluster, tmp_path):
    clips = write_clips(tmp_path/'clips', 40)
    whole = measure_archive(clips, tmp_path/'whole.parquet', scheduler=cluster, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    for i in (7, 23): p = clips/f'clip{i:03}.npy'; p.write_bytes(p.read_bytes()[:150])
    out = measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    bad = out.status == 'failed'
    assert list(np.flatnonzero(bad)) == [7, 23] and out.error[bad].str.len().min() > 10
    assert rows(out[~bad]) == rows(whole[~bad])


def test_a_file_removed_while_running(cluster, tmp_path):
    clips = write_clips(tmp_path/'clips', 20)
    def removing(path, real=Fake(tmp_path/'log', .02)):
        last = Path(path).parent/'clip019.npy'
        last.unlink(missing_ok=True)
        return real(path)
    out = measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=removing, weights='w', progress=False)
    assert list(out.status) == ['measured']*19 + ['gone'] and 'clip019' in out.error[19]
    assert rows(out[:19]) == rows(plain(clips, tmp_path))


def test_a_clip_that_kills_three_workers_is_set_aside(cluster, tmp_path):
    clips, log = write_clips(tmp_path/'clips', 12), tmp_path/'log'
    (clips/'clip003.npy').rename(clips/'poison.npy')
    for _ in range(2):
        out = measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, .02), weights='w', progress=False)
        assert measured(log).count('poison.npy') == 3, 'set aside for good'
    assert list(out.status) == ['measured']*11 + ['set aside'] and '3 workers died' in out.error[11]


def test_the_measurement_of_the_package_with_its_interval(cluster, tmp_path):
    from echomotion.data import write_avi
    from echomotion.ef import clip_ef, load_calibration
    from echomotion.phantom import phantom_clip
    clip = phantom_clip(3, size=112, n_frames=16, ranges=dict(fps=(20, 20))).clip
    write_avi(tmp_path/'clips'/'heart.avi', clip.frames, clip.fps)
    write_avi(tmp_path/'clips'/'still.avi', clip.frames[:1].repeat(12, 0), clip.fps)
    out = measure_archive(tmp_path/'clips', tmp_path/'r.parquet', scheduler=cluster, progress=False, level=.8)
    alone = clip_ef(tmp_path/'clips'/'heart.avi', level=.8)
    heart, still = out.to_dict('records')
    assert heart['status'] == 'measured' and heart['ef'] == pytest.approx(alone.ef) and '-' in heart['weights']
    assert (heart['ef_low'], heart['ef_high'], heart['level']) == pytest.approx((*alone.interval, .8))
    assert still['status'] == 'refused' and np.isnan(still['ef']) and 'does not move' in still['doubts'] and not still['error']
    with pytest.raises(ValueError, match='other weights'):
        from dataclasses import replace
        measure_archive(tmp_path/'clips', tmp_path/'other', calibration=replace(load_calibration(), weights='0'*16))


def test_a_report_of_what_could_not_be_measured(tmp_path):
    import matplotlib.pyplot as plt

    from echomotion.archive import plot_population, population_report, with_facts
    clips = write_clips(tmp_path/'clips', 3)
    for p in clips.iterdir(): p.write_bytes(p.name.encode())
    out = measure_archive(clips, tmp_path/'r.parquet', workers=0, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    page = population_report(out, tmp_path/'page.html').read_text()
    assert 'clip002.npy' in page and 'failed' in page and '0 with an EF' in page and 'not a medical device' in page
    assert len(plot_population(with_facts(out))) == 5
    plt.close('all')


# ---------------------------------------------------------------- what is killed
def test_workers_killed_at_random_moments(cluster, tmp_path):
    n = 10 + 4*KILLS
    clips, log, rng = write_clips(tmp_path/'clips', n), tmp_path/'log', random.Random(5)
    killed, over = [], threading.Event()
    def kill():
        for moment in sorted(rng.sample(range(1, n - 6), KILLS)):
            wait_for(lambda: len(measured(log)) >= moment or over.is_set())
            time.sleep(rng.uniform(0, .15))
            alive = [w.pid for w in cluster.workers.values() if w.pid]
            if alive and not over.is_set(): killed.append(rng.choice(alive)); os.kill(killed[-1], signal.SIGKILL)
    killer = threading.Thread(target=kill); killer.start()
    try: out = measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, .1), weights='w', progress=False)
    finally: over.set(); killer.join()
    assert len(killed) >= KILLS - 1
    assert rows(out) == rows(plain(clips, tmp_path)) and (out.status == 'measured').all()
    assert len(measured(log)) <= n + 2*len(killed), 'no clip but what a dead worker had in its hands was measured again'


def test_the_run_killed_at_random_moments_loses_what_was_in_flight_only(cluster, tmp_path):
    clips, log, rng = write_clips(tmp_path/'clips', 20 + 8*KILLS), tmp_path/'log', random.Random(3)
    again = dict(sources=clips, out=tmp_path/'r.parquet', scheduler=cluster.scheduler_address, weights='w', progress=False)
    for _ in range(KILLS):
        before = len(measured(log))
        run = forked(measure, {**again, 'measure': Fake(log, .08)})
        wait_for(lambda: len(measured(log)) > before or not run.is_alive())
        time.sleep(rng.uniform(0, .25))
        assert run.is_alive(), 'it should not be over yet'
        run.kill(); run.join()
    out = measure_archive(**again, measure=Fake(log, 0))
    assert rows(out) == rows(plain(clips, tmp_path))
    assert len(measured(log)) <= 20 + 8*KILLS + 6*KILLS, 'a kill costs what two workers were measuring, and what was finished in the last moment'


@pytest.mark.skipif(KILLS < 20, reason='of the full size only')
def test_a_killed_run_leaves_no_workers(tmp_path):
    run = start(write_clips(tmp_path/'clips', 40), tmp_path/'r.parquet', tmp_path/'log', .25)
    wait_for(lambda: len(measured(tmp_path/'log')) > 4 or run.poll() is not None)
    workers = worker_processes(run.pid)
    run.kill(); run.wait()
    assert workers
    wait_for(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in workers), 60)


def test_ctrl_c_keeps_what_is_finished(cluster, tmp_path):
    clips, log = write_clips(tmp_path/'clips', 40), tmp_path/'log'
    run = start(clips, tmp_path/'r.parquet', log, .2)
    wait_for(lambda: len(measured(log)) > 4)
    os.killpg(run.pid, signal.SIGINT)   # as a terminal does: to the workers, too
    code, _ = ended(run)
    assert code not in (0, None)
    kept, n = len(read_archive(tmp_path/'r.parquet')), len(measured(log))
    assert 1 <= kept < 40 and not worker_processes(run.pid)
    out = measure_archive(clips, tmp_path/'r.parquet', scheduler=cluster, measure=Fake(log, 0), weights='w', progress=False)
    assert len(measured(log)) - n == 40 - kept and rows(out) == rows(plain(clips, tmp_path))


def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]


@pytest.mark.parametrize('which', range(max(1, KILLS//2)))
def test_a_scheduler_that_is_started_again(which, cluster, tmp_path):
    clips, log, port, over = write_clips(tmp_path/'clips', 24), tmp_path/'log', free_port(), threading.Event()
    servers = [forked(serve, port)]
    def restart():
        wait_for(lambda: len(measured(log)) > 4 + which or over.is_set())
        time.sleep(random.Random(which).uniform(0, .1))
        servers[0].kill(); servers[0].join(); time.sleep(.5)
        if not over.is_set(): servers.append(forked(serve, port))
    again = threading.Thread(target=restart); again.start()
    try:
        out = measure_archive(clips, tmp_path/'r.parquet', scheduler=f'tcp://127.0.0.1:{port}', measure=Fake(log, .1), weights='w',
                              progress=False, patience=200)
    finally:
        over.set(); again.join()
        for p in servers: p.kill()
    assert len(servers) == 2 and rows(out) == rows(plain(clips, tmp_path))
    assert len(measured(log)) <= 24 + 6, 'only what was in flight was measured again'


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(OSError, match='127.0.0.1') as e:
        measure_archive(write_clips(tmp_path/'clips', 2), tmp_path/'r.parquet', scheduler=f'tcp://127.0.0.1:{free_port()}',
                        measure=Fake(tmp_path/'log', 0), weights='w', progress=False, patience=1)
    assert '\n' not in str(e.value)


# ---------------------------------------------------------------- a full disk
@pytest.mark.parametrize('when', ['journal', 'part'])
def test_a_full_disk_loses_nothing(when, tmp_path, monkeypatch):
    clips, log = write_clips(tmp_path/'clips', 20), tmp_path/'log'
    def run(): return measure_archive(clips, tmp_path/'r.parquet', workers=0, measure=Fake(log, 0), weights='w', progress=False)
    with monkeypatch.context() as m:
        if when == 'journal':
            real = ResultsFolder.add
            def add(self, row):
                if len(self.rows) == 12:
                    self.journal.write(json.dumps(row).encode()[:30])   # as much as there was room for
                    raise OSError(errno.ENOSPC, 'No space left on device', str(self.out))
                real(self, row)
            m.setattr(ResultsFolder, 'add', add)
        else:
            import pyarrow.parquet as pq
            def full(*a, **k): raise OSError(errno.ENOSPC, 'No space left on device')
            m.setattr(pq, 'write_table', full)
        with pytest.raises(OSError) as e: run()
        assert e.value.errno == errno.ENOSPC
    done = len(measured(log))
    out = run()
    assert rows(out) == rows(plain(clips, tmp_path)) and len(measured(log)) <= 21 and done >= 12


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='a small file system of its own needs root')
def test_a_disk_that_is_really_full(tmp_path):
    clips, small = write_clips(tmp_path/'clips', 60), tmp_path/'small'
    small.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=48k', 'tmpfs', str(small)], capture_output=True).returncode: pytest.skip('no mount here')
    try:
        def run(): return measure_archive(clips, small/'r.parquet', workers=0, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
        (small/'ballast').write_bytes(bytes(24_000))
        with pytest.raises(OSError) as e: run()
        assert e.value.errno == errno.ENOSPC
        done = len(measured(tmp_path/'log'))
        (small/'ballast').unlink(); subprocess.run(['mount', '-o', 'remount,size=4m', str(small)], check=True)
        assert rows(run()) == rows(plain(clips, tmp_path)) and len(measured(tmp_path/'log')) <= 60 + 1 and done < 60
    finally: subprocess.run(['umount', '-l', str(small)])


# ---------------------------------------------------------------- what it costs
def test_workers_compute_as_fast_as_a_plain_loop(cluster):
    "Dask's own setting of malloc makes each large array a new piece of memory, and a network twice as slow"
    from distributed import Client
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)   # a test before this one may have lost one, and it is on its way
        assert set(client.run(os.getenv, 'MALLOC_TRIM_THRESHOLD_').values()) == {None}
    async def another(): return spec['cls'](cluster.scheduler_address, **spec['options'])   # as Dask does for one that is lost
    spec = next(iter(cluster.worker_spec.values()))
    assert 'MALLOC_TRIM_THRESHOLD_' not in cluster.sync(another).env


def test_memory_is_flat(cluster):
    cost = engine_cost(cluster, CLIPS)
    print({k: round(v, 4) for k, v in cost.items()})
    assert cost['worker_mb'] < 12 and cost['scheduler_mb'] < 12 + .003*CLIPS, cost   # the list of clips lies beside the scheduler here


# ---------------------------------------------------------------- who listens, who knows
def test_nothing_listens_beyond_this_machine(cluster, tmp_path):
    me = psutil.Process()
    listening = [c.laddr.ip for p in [me, *me.children(recursive=True)] for c in p.net_connections('inet') if c.status == 'LISTEN']
    assert listening and set(listening) <= {'127.0.0.1', '::1'}, listening


def test_no_secret_reaches_the_results(cluster, tmp_path):
    clip = write_clips(tmp_path/'clips', 1)/'clip000.npy'
    url = f'file://{clip}'
    def failing(path): raise ValueError('https://user:pa55word@host/x.npy?X-Amz-Signature=5ecret123: no answer')
    assert public_path('sftp://me:pa55word@host/a.npy') == 'sftp://host/a.npy'
    listed = tmp_path/'list.txt'; listed.write_text(f'{url}\n')
    out = measure_archive(listed, tmp_path/'r.parquet', scheduler=cluster, measure=failing, weights='w', progress=False)
    with pytest.raises(OSError) as e: archive_clips('memory://me:pa55word@nowhere/a.npy?X-Amz-Signature=5ecret123')
    assert 'memory://nowhere/a.npy' in str(e.value) and 'pa55word' not in str(e.value) and '5ecret' not in str(e.value)
    kept = b''.join(p.read_bytes() for p in (tmp_path/'r.parquet').rglob('*') if p.is_file())
    assert len(out) == 1 and b'pa55word' not in kept and b'5ecret123' not in kept and 'no answer' in out.error[0]


def test_addresses_are_measured_like_files(cluster, tmp_path):
    clips = write_clips(tmp_path/'clips', 4)
    out = measure_archive(f'file://{clips}/clip*.npy', tmp_path/'r.parquet', scheduler=cluster, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    there = plain(clips, tmp_path)
    assert list(out.ef) == list(there.ef) and list(out.sha256) == list(there.sha256)
    assert list(out.path) == [f'file://{p}' for p in there.path] and list(out.bytes) == list(there.bytes)


def test_folders_of_pictures_and_files_without_suffix(tmp_path):
    from echomotion.data import example_dicom
    frames = tmp_path/'study'/'series1'; frames.mkdir(parents=True)
    for i in range(3): (frames/f'{i}.png').write_bytes(b'x'*(i + 1))
    shutil.copy(example_dicom(), tmp_path/'study'/'IM0001'); (tmp_path/'study'/'README').write_text('no recording'); (tmp_path/'study'/'.hidden.avi').touch()
    assert [(Path(p).name, b) for p, b, _ in archive_clips(tmp_path/'study')] == [('IM0001', example_dicom().stat().st_size), ('series1', 6)]


def test_slurm_job_script():
    pytest.importorskip('dask_jobqueue', reason='pip install echomotion[archive]')
    with slurm_cluster(0, cores=8, memory='24GB', walltime='02:00:00', queue='cpu', account='echo') as c: script = c.job_script()
    for line in ('#SBATCH -p cpu', '#SBATCH -A echo', '#SBATCH --cpus-per-task=8', '#SBATCH --mem=23G', '#SBATCH -t 02:00:00'): assert line in script, script
    command = script.strip().split('\n')[-1]
    assert '--nworkers 8' in command and '--nthreads 1' in command and '--nanny' in command and '--lifetime' in command
    assert 'OMP_NUM_THREADS=1' in script and 'MALLOC_TRIM_THRESHOLD_=67108864' in script


def test_without_the_extra_there_is_one_line(tmp_path, monkeypatch, capsys):
    from echomotion.cli import main
    text = (ROOT/'echomotion'/'archive.py').read_text()
    early = re.findall(r'^(?:import|from) .*(?<![.\w])(dask|distributed|pyarrow|accelerate|dask_jobqueue|psutil)\b', text, re.M)
    assert not early, f'{early}: imported before it is needed'
    for name in ('dask', 'distributed', 'pyarrow', 'pyarrow.parquet', 'accelerate'): monkeypatch.setitem(sys.modules, name, None)
    write_clips(tmp_path/'clips', 1)
    assert main(['archive', str(tmp_path/'clips'), '--out', str(tmp_path/'r.parquet')]) == 2
    said = capsys.readouterr().err.strip()
    assert '\n' not in said and 'pip install echomotion[archive]' in said, said


def test_names_in_another_coding_stop_nothing(tmp_path):
    clips = write_clips(tmp_path/'clips', 2)
    os.rename(clips/'clip000.npy', os.fsencode(clips) + b'/caf\xe9.npy')   # Latin-1, as old servers have it
    out = measure_archive(clips, tmp_path/'r.parquet', workers=0, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    assert list(out.status) == ['measured']*2 and out.path[0].endswith(r'caf\udce9.npy')
    again = measure_archive(clips, tmp_path/'r.parquet', workers=0, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    assert len(again) == 2 and out.seconds.equals(again.seconds), "measured once"
    listed = tmp_path/'list.txt'; listed.write_bytes(os.fsencode(clips) + b'/caf\xe9.npy\n')
    assert [Path(p).exists() for p, *_ in archive_clips(listed)] == [True]


@pytest.mark.parametrize('coding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_lists_as_windows_writes_them(tmp_path, coding):
    clips = write_clips(tmp_path/'clips', 2)
    listed = tmp_path/'list.txt'
    listed.write_text(f'{clips}/clip000.npy\r\n\r\n  # a note\r\n{clips}/clip001.npy\r\n{listed}\r\n', encoding=coding)
    assert [Path(p).name for p, *_ in archive_clips(listed)] == ['clip000.npy', 'clip001.npy', 'list.txt'], 'a list in a list is none'


def test_a_folder_that_cannot_be_read_has_a_row(tmp_path, monkeypatch):
    clips, scan = write_clips(tmp_path/'clips', 1), os.scandir
    closed = clips/'closed'; closed.mkdir()
    def denied(path='.'):
        if Path(os.fspath(path)) == closed: raise PermissionError(13, 'Permission denied', str(closed))
        return scan(path)
    monkeypatch.setattr(os, 'scandir', denied); monkeypatch.setattr(os, 'listdir', lambda p: [e.name for e in denied(p)])
    out = measure_archive(clips, tmp_path/'r.parquet', workers=0, measure=Fake(tmp_path/'log', 0), weights='w', progress=False)
    assert list(out.status) == ['measured', 'lacking'] and out.path[1] == str(closed) and 'Permission denied' in out.error[1]


# ---------------------------------------------------------------- what changes between two runs
def fake(tmp_path, name='log'): return dict(workers=0, measure=Fake(tmp_path/name, 0), weights='w', progress=False)


def test_new_dates_of_old_files_measure_nothing_anew(tmp_path):
    clips, out = write_clips(tmp_path/'clips', 3), tmp_path/'r.parquet'
    first = measure_archive(clips, out, **fake(tmp_path))
    for p in clips.iterdir(): os.utime(p, (1, 1))
    again = measure_archive(clips, out, **fake(tmp_path))
    assert len(measured(tmp_path/'log')) == 3 and list(again.ef) == list(first.ef)
    assert set(again.stamp) == {str(10**9)} and set(again.same_as) == {''} and len(pd.read_parquet(out)) == 3


def test_a_run_that_measures_anew_loses_nothing_when_it_is_stopped(tmp_path):
    clips, out = write_clips(tmp_path/'clips', 3), tmp_path/'r.parquet'
    measure_archive(clips, out, **fake(tmp_path))
    for i, p in enumerate(sorted(clips.iterdir())): np.save(p, np.full((4, 4, 4), 100 + i, np.uint8))
    def stop(path): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): measure_archive(clips, out, **{**fake(tmp_path), 'measure': stop})
    assert len(read_archive(out)) == 3, 'the old rows stay until there are new ones'
    assert list(measure_archive(clips, out, **fake(tmp_path)).ef) == [100, 101, 102] and len(pd.read_parquet(out)) == 3


def test_curves_can_be_asked_for_later(tmp_path):
    clips, out = write_clips(tmp_path/'clips', 2), tmp_path/'r.parquet'
    def without(path): return {k: v for k, v in Fake(tmp_path/'log', 0)(path).items() if k != 'curve'}
    measure_archive(clips, out, **{**fake(tmp_path), 'measure': without})
    assert not (out/'_curves').exists()
    for _ in range(2): measure_archive(clips, out, curves=True, **fake(tmp_path))
    assert len(measured(tmp_path/'log')) == 4 and len(pd.read_parquet(out)) == len(pd.read_parquet(out/'_curves')) == 2
    np.save(clips/'clip000.npy', np.full((4, 4, 4), 9, np.uint8))
    measure_archive(clips, out, curves=True, **fake(tmp_path))
    assert len(pd.read_parquet(out/'_curves')) == 2, 'the curve of what is no longer there is gone'


def test_a_run_that_was_stopped_before_it_began(tmp_path):
    (tmp_path/'r.parquet'/'_run').mkdir(parents=True)
    assert len(measure_archive(write_clips(tmp_path/'clips', 1), tmp_path/'r.parquet', **fake(tmp_path))) == 1


def test_a_damaged_part_is_named(tmp_path):
    clips, out = write_clips(tmp_path/'clips', 2), tmp_path/'r.parquet'
    measure_archive(clips, out, **fake(tmp_path))
    part, = out.glob('part-*'); part.write_bytes(b'')
    with pytest.raises(ValueError, match=r'part-000000\.parquet: this part cannot be read'): measure_archive(clips, out, **fake(tmp_path))
    part.rename(tmp_path/'away')
    assert len(measure_archive(clips, out, **fake(tmp_path))) == 2


def test_rows_are_the_same_from_wherever_they_are_asked_for(tmp_path, monkeypatch):
    clips, out = write_clips(tmp_path/'clips', 2), tmp_path/'r.parquet'
    measure_archive(clips, out, **fake(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert list(measure_archive('clips', out, **fake(tmp_path)).path) == [str(clips/f'clip00{i}.npy') for i in range(2)]
    assert len(measured(tmp_path/'log')) == len(pd.read_parquet(out)) == 2


# ---------------------------------------------------------------- where recordings lie
def test_addresses_of_folders_and_odd_names():
    import fsspec
    fs, there = fsspec.filesystem('memory'), 'memory://echo'
    for i in range(3): fs.pipe(f'/echo/ward/clip#{i}.npy', b'x'*(i + 1))
    found = archive_clips(there)
    assert [p for p, *_ in found] == [f'memory://echo/ward/clip#{i}.npy' for i in range(3)] and len({public_path(p) for p, *_ in found}) == 3
    for path, size, _ in found: assert fsspec.open(path).fs.info(fsspec.core.url_to_fs(path)[1])['size'] == size
    assert archive_clips('memory://echo/ward/clip*.npy') == archive_clips('memory://echo/ward/') == found
    assert archive_clips('memory://echo/ward/clip#1.npy') == found[1:2]
    assert public_path('abfs://wards@account.dfs.core.windows.net/a.npy').startswith('abfs://wards@account.')
    assert archive._address('abfs://c@account.dfs.core.windows.net/a/', 'c/a', 'c/a/b.npy') == 'abfs://c@account.dfs.core.windows.net/a/b.npy'
    assert archive._address('sftp://me:word@host/a', '/a', '/a/b.npy') == 'sftp://me:word@host/a/b.npy'


def test_a_missing_address_in_a_list_is_one_row(tmp_path):
    import fsspec
    fsspec.filesystem('memory').pipe('/one/a.npy', (write_clips(tmp_path/'clips', 1)/'clip000.npy').read_bytes())
    (tmp_path/'list.txt').write_text('memory://one/a.npy\nmemory://one/me:pa55@gone.npy\n')
    out = measure_archive(tmp_path/'list.txt', tmp_path/'r.parquet', **fake(tmp_path))
    assert list(out.status) == ['measured', 'gone'] and 'echomotion-' not in out.error[1]


def test_what_lies_in_a_folder_of_a_scanner(tmp_path):
    from echomotion.data import example_dicom
    study = tmp_path/'study'; study.mkdir()
    for name in ('1.2.840.113619.2.55.3', 'DICOMDIR'): shutil.copy(example_dicom(), study/name)
    (study/'1.2.9').write_text('a number, but no DICOM'); (study/'notes.txt').write_text('Mrs Smith, born 1950\n')
    (study/'again').symlink_to(study, target_is_directory=True)
    other = tmp_path/'other'; write_clips(other, 1); (study/'linked').symlink_to(other, target_is_directory=True)
    names = ['1.2.840.113619.2.55.3', 'clip000.npy']
    assert [Path(p).name for p, *_ in archive_clips(study)] == names
    assert {Path(p).name for p, *_ in archive_clips(f'{study}/*')} == set(names), 'a note that a pattern finds is no list'


def test_want_of_memory_is_known_by_its_words():
    for text in ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", 'OpenCV(5.0) error: (-4:Insufficient memory) Failed',
                 'CUDA out of memory. Tried to allocate 2 GiB'):
        assert archive._why(RuntimeError(text), 'a.npy')[0] == 'lacking', text
    wrapped = ValueError('a.npy: cannot be read'); wrapped.__cause__ = OSError(24, 'Too many open files')
    assert archive._why(wrapped, 'a.npy')[0] == 'lacking' and archive._why(ValueError('a.npy: no video'), 'a.npy')[0] == 'failed'


def test_passwords_with_odd_letters_are_not_told():
    url = 'sftp://me:p@ssw0rd@host/a.npy'
    for path in (url, 'a.npy'): assert archive._without_secrets(OSError(f'{url}: no answer'), path) == 'sftp://host/a.npy: no answer'


def test_slurm_keeps_what_the_site_says(monkeypatch):
    pytest.importorskip('dask_jobqueue', reason='pip install echomotion[archive]')
    import dask
    site = {'cores': 4, 'memory': '64GB', 'walltime': '1-00:00:00', 'job-script-prologue': ['module load python']}
    with dask.config.set({f'jobqueue.slurm.{k}': v for k, v in site.items()}), slurm_cluster(0) as c: script = c.job_script()
    for words in ('--cpus-per-task=4', '--nworkers 4', '-t 1-00:00:00', 'module load python', 'OMP_NUM_THREADS=1', '--lifetime 1435m'): assert words in script, script
    assert c.scheduler.allowed_failures == 0 and '--mem=60G' in script


def test_one_cluster_at_a_time(tmp_path, capsys):
    from echomotion.cli import main
    write_clips(tmp_path/'clips', 1)
    assert main(['archive', str(tmp_path/'clips'), '--out', str(tmp_path/'r'), '--slurm', '2', '--scheduler', 'tcp://127.0.0.1:1']) != 0
    assert 'give one of them' in capsys.readouterr().err


def test_waiting_for_a_worker_is_told():
    said, n = [], [0]
    client = type('Client', (), dict(nthreads=lambda self: dict.fromkeys(range(n[0]))))()
    with archive._told_of_workers(client, lambda text, **_: said.append(text.strip()), .01):
        wait_for(lambda: said, 5); n[0] = 2; wait_for(lambda: len(said) > 1, 5)
    assert said == ['no worker is there: waiting for one', '2 workers']


def test_facts_that_are_told_twice():
    results = pd.DataFrame(dict(path=['a', 'b'], same_as='', view='', scanner='', date=''))
    facts = pd.DataFrame(dict(path=['a', 'a'], scanner=['old', 'new']))
    assert list(archive.with_facts(results, facts).scanner) == ['new', '']


def test_the_last_row_of_a_path_counts_after_a_stop(tmp_path):
    clips, out = write_clips(tmp_path/'clips', 1), tmp_path/'r.parquet'
    row = measure_archive(clips, out, **fake(tmp_path)).iloc[0]
    with ResultsFolder(out) as results: results.add(dict(path=row.path, bytes=-1, stamp='', status='gone', error='gone', weights='w'))   # killed before it tidied
    assert list(read_archive(out).status) == ['gone']
    assert list(measure_archive(clips, out, **fake(tmp_path)).status) == ['measured'] and len(pd.read_parquet(out)) == 1


def test_a_copy_takes_after_the_one_that_was_measured(tmp_path):
    "Of three copies the first lacks memory, the second is measured: the third is like the second"
    clips = tmp_path/'clips'; clips.mkdir()
    for name in ('a large', 'b', 'c'): np.save(clips/f'{name}.npy', np.full((4, 4, 4), 7, np.uint8))
    out = measure_archive(clips, tmp_path/'r.parquet', **fake(tmp_path))
    assert list(out.status) == ['lacking', 'measured', 'measured'] and out.same_as[2] == str(clips/'b.npy')
