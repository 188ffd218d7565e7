"""The notebooks run beside the other tests, so that both cores are busy from the first test to the last."""
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

# One thread each serves two cores better than two threads one; said before anything imports torch, and to all that a test starts
os.environ.setdefault('OMP_NUM_THREADS', '1')

# What a shell starts in the background ignores Ctrl-C, and so would all that a test starts and interrupts
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from exports import ROOT

RUN = 'test_notebook_runs'
others_done = Event()
seconds = {}   # notebook -> how long it ran


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.name.startswith(RUN))   # they wait for what has been running since the beginning


def pytest_runtest_setup(item):
    if item.name.startswith(RUN): others_done.set()


def run_notebook(path):
    "nbdev_test of one; ECHOMOTION_FLAGS='slow cuda' runs the cells marked so as well"
    command = [Path(sys.executable).parent/'nbdev_test', '--path', path, '--n_workers', '0', '--flags', os.environ.get('ECHOMOTION_FLAGS', '')]
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, 'MPLBACKEND': 'agg'}, text=True, errors='replace',
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seconds[path.stem] = time.monotonic() - start
    return done


def pytest_terminal_summary(terminalreporter):
    if seconds: terminalreporter.write_line('notebooks, seconds: ' + ', '.join(f'{k} {v:.0f}' for k, v in sorted(seconds.items())))


@pytest.fixture(scope='session', autouse=True)
def notebook_runs(request):
    "Path -> future of the notebooks that are asked for: one at a time beside the other tests, then two"
    wanted = [item.callspec.params['path'] for item in request.session.items if item.name.startswith(RUN)]
    with ThreadPoolExecutor(2) as pool:   # from the last of the course, which takes longest
        if wanted: pool.submit(others_done.wait)   # keeps one place until then
        yield {path: pool.submit(run_notebook, path) for path in reversed(wanted)}
        others_done.set()
        pool.shutdown(cancel_futures=True)
