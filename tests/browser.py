"""A headless Chromium and a JupyterLab of their own, for tests/test_browser.py.

Chromium comes from the system (Debian, Ubuntu: the package `chromium`), Playwright drives it."""
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from contextlib import contextmanager
from pathlib import Path

from exports import ROOT

BIN = Path(sys.executable).parent
NAMES = ('chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome')
CHROMIUM = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run']
# no pop-up about news, every cell in the page, no save dialogue
SETTINGS = {
    '@jupyterlab/apputils-extension/notification.jupyterlab-settings': dict(fetchNews='false', checkForUpdates=False),
    '@jupyterlab/notebook-extension/tracker.jupyterlab-settings': dict(windowingMode='none'),
    '@jupyterlab/docmanager-extension/plugin.jupyterlab-settings': dict(autosave=False)}


def missing():
    "One line that says what the browser tests lack here; empty where nothing is missing"
    if CHROMIUM is None: return 'no Chromium: bash scripts/chromium.sh installs it (or name yours: CHROMIUM=/path/to/chromium)'
    try: import playwright  # noqa: F401
    except ImportError: return 'no Playwright: pip install playwright (it is among the development requirements)'
    return ''


def crowded():
    "How many times longer than its own work a process takes here just now: 1 on a machine that has nothing else to do"
    start, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < .2: sum(range(2000))
    return max(1., (time.perf_counter() - start) / .2)


@contextmanager
def chromium():
    "A headless browser, closed for sure"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try: yield browser
        finally: browser.close()


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def end_with_parent():
    "In the server's process: end when this test process does, however it ends (Linux only; elsewhere `jupyter_lab` ends it)"
    try:
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)   # PR_SET_PDEATHSIG
    except (OSError, AttributeError): pass


class Lab:
    "A running JupyterLab"
    def __init__(self, port, token, log, folder): self.url, self.token, self.log, self.folder = f'http://127.0.0.1:{port}', token, log, folder
    def ask(self, path, method='GET'):
        request = urllib.request.Request(f'{self.url}{path}', method=method, headers={'Authorization': f'token {self.token}'})
        with urllib.request.urlopen(request, timeout=10) as answer: text = answer.read()
        return json.loads(text) if text else None
    def page(self, notebook): return f'{self.url}/lab/tree/{notebook}?token={self.token}&reset'
    def classic(self, notebook):
        from nbclassic import nbclassic_path   # it makes room where Notebook 7 is installed too
        return f'{self.url}{nbclassic_path()}/notebooks/{notebook}?token={self.token}'


@contextmanager
def jupyter_lab(folder, home):
    "JupyterLab on `folder`, with settings and history of its own under `home`; its kernels end with it"
    port, token = free_port(), secrets.token_hex(16)
    for name, value in SETTINGS.items():
        file = home/'settings'/name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    env = {**os.environ, 'HOME': str(home), 'JUPYTER_CONFIG_DIR': str(home/'config'), 'JUPYTER_DATA_DIR': str(home/'data'), 'JUPYTER_RUNTIME_DIR': str(home/'run'),
           'IN_TEST': '1', 'OMP_NUM_THREADS': '1',   # the last cell of a notebook exports nothing; one thread where tests run beside each other
           'JUPYTERLAB_SETTINGS_DIR': str(home/'settings'), 'JUPYTERLAB_WORKSPACES_DIR': str(home/'workspaces'), 'IPYTHONDIR': str(home/'ipython'),
           'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])), 'PATH': f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = [BIN/'jupyter', 'lab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={token}',
               f'--ServerApp.root_dir={folder}', '--LabApp.expose_app_in_browser=True', '--LabApp.extension_manager=readonly']
    log = home/'jupyter.log'
    with open(log, 'wb') as out:
        server = subprocess.Popen([str(c) for c in command], cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                                  preexec_fn=end_with_parent)
    lab = Lab(port, token, log, folder)
    try:
        deadline = time.time() + 180   # a machine with much to do takes its time
        while True:
            if server.poll() is not None or time.time() > deadline:
                raise RuntimeError(f'JupyterLab did not start:\n{log.read_text()[-3000:]}')
            try: lab.ask('/api/status'); break
            except OSError: time.sleep(.2)
        yield lab
    finally:
        try:
            for kernel in lab.ask('/api/kernels'): lab.ask(f"/api/kernels/{kernel['id']}", 'DELETE')
        except (OSError, ValueError): pass   # then the kernels end by themselves: each watches for its parent
        server.terminate()
        try: server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


KERNEL = 'window.jupyterapp.shell.currentWidget.context.sessionContext'
RUN = "() => {window.jupyterapp.commands.execute('notebook:run-all-cells').then(ok => {window.ran = ok}, e => {window.ran = String(e)})}"


def listening(browser, **kw):
    "A page, and what goes wrong on it: console errors and uncaught exceptions; nothing outside this machine is asked for"
    page, wrong = browser.new_page(**kw), []
    page.set_default_timeout(30_000)
    page.on('console', lambda m: wrong.append(m.text) if m.type == 'error' else None)
    page.on('pageerror', lambda e: wrong.append(str(e)))
    page.route(lambda url: not url.startswith(('http://127.0.0.1', 'data:', 'blob:', 'about:')),
               lambda r: r.fulfill(status=200, content_type='image/svg+xml', body='<svg xmlns="http://www.w3.org/2000/svg"/>'))
    return page, wrong


def ran(browser, lab, name, limit=300, again=True, height=1000):
    """The notebook in JupyterLab with all its cells run; what went wrong.

    A kernel that sits idle while cells wait never got what it was asked (as in ipykernel's issue 1554; rare, and no cell's fault): once more, with
    a new one, and a warning. A kernel that is at work too long fails at once."""
    page, wrong = listening(browser, viewport=dict(width=1280, height=height))
    page.goto(lab.page(f'{name}.ipynb'))
    page.wait_for_function('window.jupyterapp?.shell?.currentWidget?.context?.isReady', timeout=60_000)
    page.evaluate(f'async () => {{await {KERNEL}.ready}}')
    page.wait_for_function(f"{KERNEL}.session?.kernel?.status === 'idle'", timeout=60_000)
    page.evaluate(RUN)
    for _ in range(limit):
        if page.evaluate('window.ran !== undefined'): break
        page.wait_for_timeout(1000)
    else:
        session = next(s for s in lab.ask('/api/sessions') if s['path'] == f'{name}.ipynb')
        state, cells = session['kernel']['execution_state'], ' '.join(page.locator('.jp-InputPrompt').all_inner_texts())
        said = f'{name} in JupyterLab: the kernel is {state} after {limit} s, its cells {cells}; {wrong}'
        assert state == 'idle' and again, said
        warnings.warn(f'{said}: once more, with a new kernel')
        page.close()
        lab.ask(f"/api/sessions/{session['id']}", 'DELETE')
        return ran(browser, lab, name, limit, False, height)
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
    assert page.evaluate('window.ran') is True and not errors, f'{name} in JupyterLab: {errors}'
    page.wait_for_function("Array.from(document.querySelectorAll('.em-live figure:not([hidden]) img')).every(i => i.complete)")
    return page, wrong
