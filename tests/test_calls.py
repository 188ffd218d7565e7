"""What the README, the changelog, the docstrings and the lessons show can be called as it stands there."""
import ast
import builtins
import importlib
import inspect
import re
import shlex
import shutil
import warnings

import pytest
from exports import ROOT, notebooks, read_notebook

from echomotion.cli import cli_parser

MODULES = [importlib.import_module(f'echomotion.{p.stem}') for p in sorted((ROOT/'echomotion').glob('[a-z]*.py'))]
PUBLIC = {name: getattr(m, name) for m in MODULES for name in m.__all__}
OTHERS = {'unet_learner', 'lr_find'}   # of fastai, and named in our texts


def bound_names(source):
    "Every name that a module gives to something: parameters, functions, variables"
    nodes = [*ast.walk(ast.parse(source))]
    return ({n.arg for n in nodes if isinstance(n, ast.arg)} | {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
            | {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})


BOUND = {m.__name__: bound_names(inspect.getsource(m)) for m in MODULES}
NOTEBOOKS = notebooks()


def prose(path):
    return '\n\n'.join(c['source'] for c in read_notebook(path)['cells'] if c['cell_type'] == 'markdown')


def docstrings():
    "Docstrings and comments of the library, a text a module"
    return {m.__name__: '\n'.join(re.findall(r'"""[\s\S]*?"""|^\s*".*"$|#.*$', inspect.getsource(m), re.M)) for m in MODULES}


TEXTS = {**{p: (ROOT/p).read_text(encoding='utf-8') for p in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md')},
         'quick.md': (ROOT/'echomotion'/'weights'/'quick.md').read_text(encoding='utf-8'), **docstrings()}
LESSONS = {p.name: prose(p) for p in NOTEBOOKS}


def fenced(text, *languages):
    return [body for language, body in re.findall(r'^```(\w*)\n(.*?)^```', text, re.M | re.S) if language in languages]


def spans(text):
    return re.findall(r'`([^`\n]+)`', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S))


def calls(source):
    "(name, number of positional arguments, keywords) of each call of a plain name; a source that is no Python has none"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # half sentences of mathematics
        try: tree = ast.parse(source.strip())
        except SyntaxError: return
    for n in ast.walk(tree):
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name):
            shown = [a for a in n.args if not (isinstance(a, ast.Constant) and a.value is ...)]   # `f(...)`: whatever it takes
            yield n.func.id, len(shown), [k.arg for k in n.keywords if k.arg]


def why_not(name, positional, keywords):
    "What is wrong with a call of a public function; None if it can be made"
    try: inspect.signature(PUBLIC[name]).bind_partial(*[None]*positional, **dict.fromkeys(keywords))
    except TypeError as e: return f'{name}: {e}'


def shown_calls(text):
    for source in [*spans(text), *fenced(text, 'py', 'python')]: yield from calls(source)


@pytest.mark.parametrize('name', TEXTS)
def test_calls_that_are_shown_can_be_made(name):
    bad = []
    for call, *arguments in shown_calls(TEXTS[name]):
        if call in PUBLIC: bad.append(why_not(call, *arguments))
        elif not hasattr(builtins, call) and call not in OTHERS | BOUND.get(name, set()): bad.append(f'{call}: no such function in echomotion')
    assert not any(bad), [b for b in bad if b]


@pytest.mark.parametrize('name', LESSONS)
def test_calls_that_lessons_mention_can_be_made(name):
    bad = [why_not(call, *arguments) for call, *arguments in shown_calls(LESSONS[name]) if call in PUBLIC]
    assert not any(bad), [b for b in bad if b]


def test_a_wrong_call_would_be_found():
    assert [*calls("clip_ef('clip.dcm', modle=m)")] == [('clip_ef', 1, ['modle'])]
    assert 'modle' in why_not('clip_ef', 1, ['modle']) and why_not('clip_ef', 1, []) is None
    assert [*calls('train_model(cbs=...)')] == [('train_model', 0, ['cbs'])]


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    from echomotion.data import example_dicom
    shutil.copyfile(example_dicom(), tmp_path/'clip.dcm')
    monkeypatch.chdir(tmp_path)
    blocks = fenced(TEXTS['README.md'], 'py', 'python')
    assert blocks, 'the README shows no Python'
    for block in blocks:
        names = {}
        exec(block, names)
        assert 0 < names['result'].ef < 100


def test_clip_ef_takes_a_path():
    from echomotion.data import example_dicom
    from echomotion.ef import clip_ef
    assert 0 < clip_ef(str(example_dicom())).ef < 100


def commands(text):
    "Command lines of echomotion that a text shows, in spans and in blocks"
    lines = spans(text) + [line.split('#')[0] for block in fenced(text, 'text', 'sh', 'bash', '') for line in block.split('\n')]
    return [line.strip() for line in lines if re.match(r'\s*(\.venv/bin/)?echomotion [a-z-]', line)]


@pytest.mark.parametrize('name', [*TEXTS, *LESSONS])
def test_commands_that_are_shown_are_understood(name, capsys):
    for line in commands({**TEXTS, **LESSONS}[name]):
        words = shlex.split(line)[1:]
        if len(words) == 1 and not words[0].startswith('-'): words.append('--help')   # the bare name of a command
        try: cli_parser().parse_args(words)
        except SystemExit as e: assert not e.code, f'{name}: {line}: {capsys.readouterr().err}'
