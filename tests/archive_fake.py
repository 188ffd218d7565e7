"A measurement for the tests of the archive: it takes a moment, writes down that it was made, and does what the name of the file says."
import os
import time
from pathlib import Path

import numpy as np


class Fake:
    def __init__(self, log, seconds): self.log, self.seconds = str(log), seconds

    def __call__(self, path):
        name = Path(path).name
        fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, os.fsencode(f'{name}\n')); os.close(fd)
        time.sleep(self.seconds)
        if 'poison' in name: os.kill(os.getpid(), 9)
        if 'large' in name and not os.path.exists(self.log + '.memory'): raise MemoryError
        a = np.load(path)
        return dict(ef=float(a.mean()), frames=len(a), curve=dict(area=[1., 2.], volume=[3., None]))


def measure(settings):
    "`measure_archive` as the work of a process"
    from echomotion.archive import measure_archive
    measure_archive(**settings)


def serve(port):
    "A scheduler with a worker, in one process, until it is killed"
    from distributed import LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, host='127.0.0.1', scheduler_port=port, dashboard_address=None):
        time.sleep(3600)
