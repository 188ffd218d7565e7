"""Every notebook of the course teaches in one form: how it opens, its exercises with hints and solutions, how it ends."""
import asyncio
import os
import re
import sys
import time
from typing import NamedTuple

import pytest
from exports import ROOT, directives, is_export, notebooks, read_notebook

COURSE = [p for p in notebooks() if re.match(r'\d\d_', p.name)]
ids = [p.stem for p in COURSE]
KINDS = {'predict, then run', 'change one thing and explain', 'find the bug', 'write the function'}
EXERCISE = re.compile(r'^### Exercise (\d+): (.+) \(([^()]+)\)$', re.M)
HEADING = re.compile(r'^#{1,3} .+$', re.M)
SOLUTION = '#| code-fold: true\n#| code-summary: "Solution"\n'
TRY_FIRST = '*Try it first. The solution is in the next cell.*'
SECONDS = 180   # a notebook, top to bottom, on two cores


class Exercise(NamedTuple):
    number: int
    title: str
    kind: str
    cells: list   # (index in the notebook, cell), the heading's cell first


def exercises(nb):
    "The exercises of a notebook; one ends where the next heading of its level or above stands"
    found, inside = [], False
    for i, cell in enumerate(nb['cells']):
        if cell['cell_type'] == 'markdown':
            for h in HEADING.findall(cell['source']):
                m = EXERCISE.match(h)
                inside = bool(m)
                if m: found.append(Exercise(int(m[1]), m[2], m[3], []))
        if inside: found[-1].cells.append((i, cell))
    return found


def code_of(exercise):
    return [(i, c) for i, c in exercise.cells if c['cell_type'] == 'code']


def is_solution(cell): return cell['source'].startswith(SOLUTION)


def is_check(cell):
    "A self-check shows what a `check_...` says of the student's answer"
    return not is_solution(cell) and bool(re.search(r'^(?!\s*def ).*\bcheck_\w+\(', cell['source'], re.M))


def shown(outputs):
    "What a reader sees of the outputs of a cell"
    texts = []
    for o in outputs:
        assert o['output_type'] != 'error', f"{o.get('ename')}: {o.get('evalue')}"
        texts.append(''.join(o.get('text', '')) + ''.join(o.get('data', {}).get('text/plain', '')))
    return '\n'.join(texts)


def prose(nb):
    return '\n\n'.join(c['source'] for c in nb['cells'] if c['cell_type'] == 'markdown')


def section(text, heading):
    "The text under a heading, up to the next heading or the bridge to the next notebook"
    assert heading in text.split('\n'), f'no {heading!r}'
    return re.split(r'^#{1,3} |^\*\*Next:', text.split(heading + '\n', 1)[1], maxsplit=1, flags=re.M)[0]


def slug(heading):
    "The anchor that a heading has on the site"
    return re.sub(r'[^\w\- .]', '', heading.strip().lower()).replace(' ', '-')


def glossary():
    "Anchor -> text of each term of the glossary"
    parts = re.split(r'^### (.+)$', prose(read_notebook(ROOT/'nbs'/'glossary.ipynb')), flags=re.M)
    return {slug(term): re.split(r'^## ', text, flags=re.M)[0] for term, text in zip(parts[1::2], parts[2::2])}


def test_course_begins_with_measuring_and_ends_with_the_command_line():
    numbers = [int(p.stem[:2]) for p in COURSE]
    assert numbers[:8] == list(range(8)) and numbers == sorted(set(numbers)) and COURSE[-1].stem == '13_cli'


def test_modules_import_from_modules_before_them_only():
    "Data flows in the notebooks' order; an import inside a function counts too"
    order = {p.stem[3:]: int(p.stem[:2]) for p in COURSE}
    back = []
    for path in COURSE:
        source = (ROOT/'echomotion'/f'{path.stem[3:]}.py').read_text(encoding='utf-8')
        names = set(re.findall(r'^\s*(?:from|import) (?:echomotion)?\.(\w+)', source, re.M))
        back += [f'{path.stem} imports {n}' for n in names & set(order) if order[n] > order[path.stem[3:]]]
    assert not back, back


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_opens_with_what_how_long_and_what_it_needs(path):
    top = '\n'.join(c['source'] for c in read_notebook(path)['cells'][:2] if c['cell_type'] == 'markdown')
    for label in ('**You will be able to** ', '**Time:** ', '**Needs:** '):
        assert label in top, f'{label!r} in the first two cells'
    assert re.search(r'GPU|CPU|Jupyter|browser', top.split('**Needs:**')[1]), 'Needs: says what a GPU changes, or that none is needed'


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_says_which_functions_to_take_along_and_what_is_borrowed(path):
    "Lessons import what comes before them; what an example takes from a later one is said at the top"
    nb = read_notebook(path)
    top = '\n'.join(c['source'] for c in nb['cells'][:3] if c['cell_type'] == 'markdown')
    told = re.search(r'^\*\*Five functions.*$', top, re.M)
    assert told and len(set(re.findall(r'`([\w.]+)`', told[0]))) >= 5, 'a line "**Five functions ..." in the first cells names them'
    code = '\n'.join(c['source'] for c in nb['cells'] if c['cell_type'] == 'code' and not is_export(c['source']))
    later = {p.stem for p in COURSE if p.stem > path.stem and re.search(rf'(?:from|import) echomotion\.{p.stem[3:]}\b', code)}
    borrowed = '\n'.join(line for line in top.split('\n') if 'orrow' in line)
    missing = sorted(name for name in later if name not in borrowed)
    assert not missing, f'examples use {missing}, and no line at the top says what is borrowed from there'


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_exercises_of_all_kinds(path):
    found = exercises(read_notebook(path))
    assert len(found) >= 4, f'{len(found)} exercises with a heading "### Exercise N: title (kind)"'
    assert [e.number for e in found] == list(range(1, len(found) + 1))
    kinds = {e.kind for e in found}
    assert kinds == KINDS, f'missing {sorted(KINDS - kinds)}, unknown {sorted(kinds - KINDS)}'


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_exercise_has_stub_check_and_solution(path):
    nb, bad = read_notebook(path), []
    if not exercises(nb): pytest.fail('no exercises')
    for e in exercises(nb):
        lacks = lambda what: bad.append(f'Exercise {e.number}: {what}')
        stubs = [i for i, c in code_of(e) if re.search(r'#.*\bTODO\b', c['source']) and not is_solution(c)]
        checks = [i for i, c in code_of(e) if is_check(c)]
        solutions = [(i, c) for i, c in code_of(e) if is_solution(c)]
        if not stubs: lacks('no stub with a "# TODO" comment')
        if not checks: lacks('no cell that shows what a check_...() says of the stub')
        if len(solutions) != 1: lacks(f'{len(solutions)} folded cells with the summary "Solution", one is wanted'); continue
        i, solution = solutions[0]
        if stubs and checks and not stubs[0] <= checks[-1] < i: lacks('the order is stub, check, solution')
        if not re.search(r'^\s*(test_\w+\(|assert\b)', solution['source'], re.M): lacks('the solution asserts nothing')
        elif 'check_' not in solution['source']: lacks("the solution is not tested through the student's own check")
        before = nb['cells'][i - 1]
        if not (before['cell_type'] == 'markdown' and before['source'].rstrip().endswith(TRY_FIRST)): lacks(f'before the solution stands no {TRY_FIRST!r}')
        if any('hide' in directives(c['source']) for j, c in code_of(e) if j in stubs + checks): lacks('the stub or the check is hidden')
    assert not bad, '\n  '.join(['', *bad])


def is_hint(text):
    "Does a check's text help somebody who has not answered yet?"
    return len(text.strip()) >= 20 and 'Right!' not in text and 'Traceback' not in text


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_untouched_stub_shows_a_hint(path):
    "As saved with the notebook; test_untouched_stub_gives_a_hint_when_run runs it"
    nb = read_notebook(path)
    assert exercises(nb), 'no exercises'
    for e in exercises(nb):
        said = [shown(c['outputs']) for _, c in code_of(e) if is_check(c)]
        assert any(map(is_hint, said)) and not any('Right!' in s for s in said), f'Exercise {e.number} shows {said}: a hint is wanted. Run the notebook and keep its outputs'


@pytest.mark.skipif('slow' not in os.environ.get('ECHOMOTION_FLAGS', ''), reason="runs each notebook a second time: ECHOMOTION_FLAGS=slow")
@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_untouched_stub_gives_a_hint_when_run(path, monkeypatch):
    "A fresh kernel runs the notebook as a student would who answers nothing: hints, no exception, in time"
    import nbformat
    from nbclient import NotebookClient
    if sys.platform == 'win32': asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    monkeypatch.setenv('MPLBACKEND', 'module://matplotlib_inline.backend_inline')
    nb = nbformat.read(path, 4)
    nb.cells = [c for c in nb.cells if 'nbdev_export()' not in c.source and not ('cuda' in directives(c.source) and c.cell_type == 'code')]
    began = time.monotonic()
    NotebookClient(nb, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}).execute()
    seconds = time.monotonic() - began
    for e in exercises(nb):
        said = [shown(c['outputs']) for _, c in code_of(e) if is_check(c)]
        assert any(map(is_hint, said)) and not any('Right!' in s for s in said), f'Exercise {e.number} says {said}'
    assert seconds < SECONDS, f'{path.name} took {seconds:.0f} s'


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_ends_with_questions_reading_and_a_bridge(path):
    text = prose(read_notebook(path))
    questions = re.findall(r'^(?:\d+\.|[-*]) .+', section(text, '### Questions to answer in your own words'), re.M)
    assert 3 <= len(questions) <= 5, f'{len(questions)} questions, 3 to 5 are wanted'
    dois = re.findall(r'\[doi (10\.\d{4,9}/[^\]\s]+)\]\(https://doi\.org/((?:[^\s()]|\([^\s()]*\))+)\)', section(text, '## Further reading'))
    assert len({a for a, _ in dois}) >= 3, f'{len(dois)} entries with [doi 10.x/y](https://doi.org/10.x/y), three are wanted'
    assert all(a.lower() == b.lower() for a, b in dois), f'text and link of a DOI differ: {dois}'
    if path.stem.startswith('13'): return   # the course may end here
    bridge = re.search(r'^\*\*Next:\*\* .*?\[[^\]]+\]\((\w+\.ipynb)\)', text, re.M)
    assert bridge, 'a bridge: **Next:** [03_ef](03_ef.ipynb), ...'
    assert (path.parent/bridge[1]).exists()
    assert len(text) - bridge.start() < 1500, 'the bridge stands at the end'


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_links_the_glossary(path):
    links = re.findall(r'\]\(glossary\.ipynb(?:#([^)\s]*))?\)', prose(read_notebook(path)))
    unknown = sorted({a for a in links if a} - set(glossary()))
    assert not unknown, f'no such terms in the glossary: {unknown}'
    assert len({a for a in links if a}) >= 8, f'{len(set(links))} different terms are linked, eight are wanted'


def test_glossary_entries_are_short_linked_and_say_where():
    terms, bad = glossary(), []
    assert len(terms) >= 95
    for term, text in terms.items():
        words = len(re.sub(r'\]\([^)]*\)', '', text).split())
        inside = re.findall(r'\]\(#([^)]+)\)', text)
        if not 15 <= words <= 90: bad.append(f'{term}: {words} words')
        if not set(inside) <= set(terms) - {term}: bad.append(f'{term}: links {sorted(set(inside) - set(terms) or {term})}')
        if not inside: bad.append(f'{term}: links no neighbour')
        where = re.findall(r'\]\((\d\d_\w+\.ipynb)\)', text)
        if not where or not all((ROOT/'nbs'/w).exists() for w in where): bad.append(f'{term}: names no notebook that uses it')
    assert not bad, '\n  '.join(['', *bad])


def test_glossary_names_the_right_notebooks():
    "A notebook that a term names links the term, or says it"
    said, bad = {p.name: prose(read_notebook(p)).lower() for p in COURSE}, []
    for term, text in glossary().items():
        for name in re.findall(r'\]\((\d\d_\w+\.ipynb)\)', text):
            if f'glossary.ipynb#{term})' not in said[name] and term.replace('-', ' ') not in said[name].replace('-', ' '): bad.append(f'{term}: not in {name}')
    assert not bad, '\n  '.join(['', *bad])


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_checks_and_solutions_are_folded_and_checks_take_any_answer(path):
    "Folded in JupyterLab and VS Code (`source_hidden`), on Colab (`cellView`) and on the site (`code-fold`); a check is a `self_check`"
    for exercise in exercises(read_notebook(path)):
        for i, cell in code_of(exercise):
            if not is_solution(cell) and not re.search(r'^def check_', cell['source'], re.M): continue
            where = f'exercise {exercise.number}, cell {i}'
            assert cell['metadata'] == {'cellView': 'form', 'jupyter': {'source_hidden': True}}, f'{where}: not folded'
            assert cell['source'].startswith('#| code-fold: true\n#| code-summary: '), f'{where}: not folded on the site'
            assert len(re.findall(r'^def check_', cell['source'], re.M)) == len(re.findall(r'^@self_check\ndef check_', cell['source'], re.M)), f'{where}: no @self_check'


@pytest.mark.parametrize('path', COURSE, ids=ids)
def test_no_output_under_a_folded_answer(path):
    "Who looks at the page has still to answer"
    shown_below = [i for i, c in enumerate(read_notebook(path)['cells']) if is_solution(c) and c['outputs']]
    assert not shown_below, f'cells {shown_below} show what their solutions print. Run: make export'


def test_glossary_index_names_every_term():
    first = read_notebook(ROOT/'nbs'/'glossary.ipynb')['cells'][0]['source']
    assert set(re.findall(r'\]\(#([^)]+)\)', first)) == set(glossary())
