"""The notebooks are clean, the library is in step with them, and every notebook runs."""
import ast
import builtins
import importlib
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from exports import ROOT, code_cells, directives, exports, is_export, notebooks, plain, read_notebook

BIN = Path(sys.executable).parent
NOTEBOOKS = notebooks()
COURSE = [p for p in NOTEBOOKS if p.name not in ('index.ipynb', 'glossary.ipynb')]   # these two have prose only
ids = [p.stem for p in NOTEBOOKS]
COLAB = """import sys
if 'google.colab' in sys.modules:
    import subprocess
    source = 'git+https://github.com/echomotion/echomotion'
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', source], check=True)
    import torch
    print('torch', torch.__version__, '| GPU:', torch.cuda.get_device_name() if torch.cuda.is_available() else 'none')"""
BADGE = ('[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
         '(https://colab.research.google.com/github/echomotion/echomotion/blob/main/nbs/{name})')


def run(*cmd, cwd=ROOT, **env):
    return subprocess.run([str(c) for c in cmd], cwd=cwd, env={**os.environ, **env}, text=True,
                          errors='replace',   # OpenCV prints what it finds where a spoiled AVI should have a tag
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def differences(a, b, suffixes):
    "Files under `a` and `b` with one of `suffixes` that are not the same"
    files = {p.relative_to(d) for d in (a, b) for p in d.rglob('*') if p.suffix in suffixes
             and not any(part.startswith(('.', '__pycache__')) for part in p.relative_to(d).parts)}
    read = lambda p: p.read_bytes() if p.exists() else None
    return sorted(str(f) for f in files if read(a/f) != read(b/f))


@pytest.fixture(scope='session')
def tree(tmp_path_factory):
    "A copy of the tree, so that what cleans and exports does not touch the real one"
    copy = tmp_path_factory.mktemp('tree')/'echomotion'
    copy.mkdir()
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', '_quarto.yml', 'README.md'):
        if (ROOT/name).exists(): shutil.copy2(ROOT/name, copy/name)
    ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'nbdev.yml')
    for name in ('nbs', 'echomotion', 'scripts'): shutil.copytree(ROOT/name, copy/name, symlinks=True, ignore=ignore)
    return copy


def test_notebooks_are_clean(tree):
    done = run(BIN/'nbdev_clean', cwd=tree)
    assert done.returncode == 0, done.stdout
    changed = differences(ROOT/'nbs', tree/'nbs', {'.ipynb'})
    assert not changed, f'not clean: {changed}. Run: make export'


def test_library_is_in_step_with_the_notebooks(tree):
    done = run(BIN/'nbdev_export', cwd=tree)
    assert done.returncode == 0, done.stdout
    changed = differences(ROOT/'echomotion', tree/'echomotion', {'.py'})
    assert not changed, f'differs from what the notebooks export: {changed}. Edit the notebook, then run: make export'
    assert (tree/'pyproject.toml').read_text() == (ROOT/'pyproject.toml').read_text()


def test_readme_is_in_step_with_the_index(tree):
    "The tables of the weights' figures in it come from the files beside the weights"
    done = run(sys.executable, 'scripts/readme.py', cwd=tree)
    assert done.returncode == 0, done.stdout
    for name in ('README.md', 'nbs/index.ipynb'):
        assert (tree/name).read_text() == (ROOT/name).read_text(), f'{name} is not what scripts/readme.py makes. Run: make export'


@pytest.mark.parametrize('what', ['echomotion', 'nbs', 'tests', 'scripts'])
def test_names_are_known_and_used(what):
    "Ruff's F rules: no name that is not defined, no import or variable that nobody uses; of the notebooks' cells, too. F811 cannot see `@patch`, which gives several classes a method of one name"
    done = run(BIN/'ruff', 'check', '--isolated', '--no-cache', '--select', 'F', '--ignore', 'F811', '--output-format', 'concise', what)
    assert done.returncode == 0, done.stdout


def test_course_has_its_notebooks():
    want = ['00_data', '01_unet', '02_train', '03_ef', '04_evaluate', '05_phantom', '06_widgets', '07_real', '08_time', '09_live', '10_views', '11_trust', '12_archive', '13_cli', 'glossary', 'index']
    assert [p.stem for p in NOTEBOOKS if p.stem in want] == want


@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids)
def test_notebook_is_fit_to_publish(path):
    nb, text = read_notebook(path), path.read_text(encoding='utf-8')
    assert len(text.encode()) < 1_000_000, 'over 1 MB: smaller or fewer pictures'
    assert set(nb['metadata']) <= {'kernelspec'}, f"metadata {set(nb['metadata'])}: GitHub does not show notebooks with widget state"
    assert 'widget-view+json' not in text, 'a saved widget shows a reader nothing: keep a picture of it instead'
    assert 'skip_exec' not in text, 'skip_exec makes a notebook pass its test without running'
    found = re.findall(r'(?<![\w.:/])(?:/home|/root|/Users|/tmp|/work|/var/folders|/content|/private)/[\w./-]*', text)
    assert not found, f'absolute paths: {sorted(set(found))}'
    for cell in code_cells(nb):
        assert cell['execution_count'] is None, 'execution counts. Run: make export'
        for out in cell['outputs']:
            assert out['output_type'] != 'error', f"an error was saved as an output: {out.get('evalue')}"
            assert out.get('execution_count') is None
    unknown = {d for c in code_cells(nb) for d in directives(c['source'])} - {
        'default_exp', 'export', 'exports', 'exporti', 'hide', 'hide_line', 'hide_input', 'code-fold', 'code-summary', 'echo', 'output',
        'eval', 'slow', 'cuda', 'label', 'fig-cap', 'fig-alt', 'warning', 'filter_stream', 'column', 'layout-ncol'}
    assert not unknown, f'unknown directives {unknown}'
    hidden = [c for c in code_cells(nb) if re.search(r'^#\|\s*eval:\s*false', c['source'], re.M | re.I)]
    assert not hidden, 'a cell that is never run: ' + hidden[0]['source'][:80]


@pytest.mark.parametrize('path', COURSE, ids=[p.stem for p in COURSE])
def test_notebook_opens_in_colab(path):
    nb = read_notebook(path)
    first = nb['cells'][0]
    assert first['cell_type'] == 'markdown' and first['source'].startswith('# '), 'starts with a title'
    assert re.search(r'^> ', first['source'], re.M), 'a line of description (> ...) under the title'
    top = '\n'.join(c['source'] for c in nb['cells'][:3] if c['cell_type'] == 'markdown')
    assert BADGE.format(name=path.name) in top, 'the Colab badge of this notebook'
    assert COLAB in [c['source'] for c in code_cells(nb)[:4]], 'the Colab cell, the same in every notebook'
    assert 'nbdev_export()' in code_cells(nb)[-1]['source'], 'the last cell exports'


@pytest.mark.parametrize('path', COURSE, ids=[p.stem for p in COURSE])
def test_imports_stand_alone(path):
    "To build the site nbdev runs the cells with imports or exports and no others, so such a cell cannot use what others made"
    known = set(dir(builtins))
    for cell in code_cells(read_notebook(path)):
        body = ast.parse(plain(cell['source'])).body
        imports = any(isinstance(n, (ast.Import, ast.ImportFrom)) for stmt in body for n in ast.walk(stmt))
        if 'nbdev_export()' in cell['source'] or not imports and not directives(cell['source']) & {'export', 'exports', 'exporti'}: continue
        nodes = [n for stmt in body for n in ast.walk(stmt)]
        known |= {a.asname or a.name.split('.')[0] for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
        known |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))} | {n.arg for n in nodes if isinstance(n, ast.arg)}
        known |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} | {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
        for n in nodes:
            if isinstance(n, ast.ImportFrom) and n.names[0].name == '*' and not n.level: known |= set(dir(importlib.import_module(n.module)))
        if not imports or is_export(cell['source']): continue
        missing = {n.id for n in nodes if isinstance(n, ast.Name)} - known
        assert not missing, f"{sorted(missing)} come from other cells; put the imports into a cell of their own: {cell['source'][:80]!r}"


@pytest.mark.parametrize('path', COURSE, ids=[p.stem for p in COURSE])
def test_cells_are_short(path):
    lengths = []
    for cell in code_cells(read_notebook(path)):
        lines = [l for l in cell['source'].split('\n') if l.strip() and not l.strip().startswith('#|')]
        lengths.append(len(lines))
        if len(lines) <= 25: continue
        body = ast.parse(plain(cell['source'])).body
        whole = all(isinstance(n, (ast.FunctionDef, ast.ClassDef)) for n in body) and len(body) == 1
        assert whole, f'{len(lines)} lines in one cell that is not one function or class: {lines[0][:60]!r}'
    print(f'{path.stem}: {len(lengths)} code cells, median {statistics.median(lengths)} lines, longest {max(lengths)}')
    assert statistics.median(lengths) <= 6, f'median cell of {statistics.median(lengths)} lines: split them'


@pytest.mark.parametrize('path', COURSE, ids=[p.stem for p in COURSE])
def test_exports_are_finished(path):
    bad = [f"{e.name}: {'; '.join(e.lacks)}" for e in exports(path) if e.lacks]
    assert not bad, 'unfinished exports (see tests/exports.py):\n  ' + '\n  '.join(bad)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids)
def test_notebook_runs(path, notebook_runs):
    "nbdev_test, notebook by notebook, begun with the first test (conftest.py)"
    done = notebook_runs[path].result()
    assert done.returncode == 0, done.stdout[-6000:]
    assert 'Success' in done.stdout, done.stdout
