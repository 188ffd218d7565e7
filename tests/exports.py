"""Which public exports lack documentation, an example or an assertion:  python tests/exports.py [NOTEBOOK ...]

It also says how each notebook reads (cells, lines, words): a mirror, not a gate.

An export is finished when
- every parameter and the return value say what they are (fastcore's docments: a comment beside each),
- it has a docstring,
- it is used within REACH code cells after its definition in a cell that a reader runs (an example), and
- a cell with an assertion (`test_...` or `assert`) within REACH code cells names it or something made with it.
"""
import ast
import json
import re
import statistics
import sys
import tokenize
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
REACH = 6


class Export(NamedTuple):
    notebook: str
    name: str
    lacks: tuple


def read_notebook(path):
    "The notebook as a dictionary, its sources joined to one string each"
    nb = json.loads(Path(path).read_text(encoding='utf-8'))
    for cell in nb['cells']: cell['source'] = ''.join(cell['source'])
    return nb


def notebooks():
    "The course's notebooks in their order"
    return sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not p.name.startswith(('_', '.')))


def code_cells(nb):
    return [c for c in nb['cells'] if c['cell_type'] == 'code']


def directives(source):
    return {m.group(1) for m in re.finditer(r'^\s*#\|\s*([\w-]+)', source, re.M)}


def plain(source):
    "`source` without magics, which are not Python"
    return '\n'.join('pass' if re.match(r'\s*[%!]', line) else line for line in source.split('\n'))


def is_export(source):
    return bool(directives(source) & {'export', 'exports', 'exporti'})


def returns_something(node):
    "Does the function have a `return` with a value (or a `yield`), functions inside it left out?"
    inside = list(ast.iter_child_nodes(node))
    while inside:
        n = inside.pop()
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)): continue
        if isinstance(n, (ast.Yield, ast.YieldFrom)) or isinstance(n, ast.Return) and n.value is not None: return True
        inside += ast.iter_child_nodes(n)
    return False


def undocumented(node, lines, comments, dataclass=False):
    "Parameters of a function (or fields of a dataclass, unless its default is a call that says so) and the return value without a comment of their own"
    told = lambda n: isinstance(n.value, ast.Call) and any(isinstance(a, ast.Constant) and isinstance(a.value, str) and a.value for a in n.value.args)
    if dataclass: items = [(n.target.id, n.lineno, n.end_lineno) for n in node.body if isinstance(n, ast.AnnAssign) and not told(n)]
    else:
        a = node.args
        args = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
        items = [(p.arg, p.lineno, p.end_lineno) for p in args if p.arg not in ('self', 'cls')]
        if node.name != '__init__':
            if node.returns is not None: items.append(('return', node.returns.lineno, node.returns.end_lineno))
            elif returns_something(node): items.append(('return', -1, -1))
    starts = [line for _, line, _ in items]
    def said(line, end):
        if line in comments or end in comments: return starts.count(line) == 1
        return line - 1 in comments and lines[line - 2].strip().startswith('#')
    return [name for name, line, end in items if line < 0 or not said(line, end)]


def names_in(source):
    try: tree = ast.parse(plain(source))
    except SyntaxError: return set(re.findall(r'\w+', source))
    return ({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
            | {a.asname or a.name for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
            | {f'run_{c}' for c in re.findall(r"\bmain\(\['(\w+)'", source)})   # a command's function is used by its command


def made_with(source, names):
    "Variables that `source` assigns from an expression that uses one of `names`"
    try: tree = ast.parse(plain(source))
    except SyntaxError: return set()
    made = set()
    for n in ast.walk(tree):
        if isinstance(n, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and n.value is not None:
            targets = n.targets if isinstance(n, ast.Assign) else [n.target]
            if names_in(ast.unparse(n.value)) & names:
                made |= {t.id for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)}
        if isinstance(n, (ast.FunctionDef, ast.Lambda)) and names_in(ast.unparse(n)) & names and hasattr(n, 'name'):
            made.add(n.name)
    return made


def asserts(source):
    return bool(re.search(r'^\s*(test_\w+\(|assert\b)', source, re.M) or re.search(r'\bexpect_\w+\(', source))


def grows(source, names):
    "Does a cell add methods to one of the classes `names` by @patch? Then it is a part of the definition"
    return is_export(source) and any(re.search(rf'^@patch.*\ndef \w+\(self:{n}\b', source, re.M) for n in names)


def used(cells, i, names):
    "Whether a cell within reach of cell `i` is an example of one of `names`, and whether one asserts something of it"
    known, example, asserted = set(names), False, False
    after = [c for c in cells[i+1:] if not grows(c['source'], names)]
    for cell in after[:REACH]:
        source = cell['source']
        if names_in(source) & known and not is_export(source): example, asserted = True, asserted or asserts(source)
        known |= made_with(source, known)
    return example, asserted


def makers_of(name, source):
    "Functions that `source` exports and whose return annotation is `name`"
    if not is_export(source): return set()
    return {n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.returns is not None
            and name in re.findall(r'\w+', ast.unparse(n.returns))}


def exports(path):
    "Every public function and class that notebook `path` exports, with what each lacks"
    cells = code_cells(read_notebook(path))
    for i, cell in enumerate(cells):
        source = cell['source']
        if 'export' not in directives(source) and 'exports' not in directives(source): continue
        lines = source.split('\n')
        comments = {t.start[0] for t in tokenize.tokenize(BytesIO(source.encode()).readline) if t.type == tokenize.COMMENT}
        for node in ast.parse(source).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'): continue
            decorators = ' '.join(ast.unparse(d) for d in node.decorator_list)
            if 'patch' in decorators: continue
            lacks = [] if ast.get_docstring(node) else ['docstring']
            if isinstance(node, ast.FunctionDef): missing = undocumented(node, lines, comments)
            elif 'dataclass' in decorators: missing = undocumented(node, lines, comments, dataclass=True)
            else:
                init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__']
                missing = undocumented(init[0], lines, comments) if init else []
            if missing: lacks.append('docments: ' + ', '.join(missing))
            example, asserted = used(cells, i, {node.name})
            if isinstance(node, ast.ClassDef) and not asserted:   # used by way of a function that makes one
                for j, makers in enumerate(makers_of(node.name, c['source']) for c in cells):
                    if makers: example, asserted = map(any, zip((example, asserted), used(cells, j, makers)))
            if not example: lacks.append('example')
            if not asserted: lacks.append('assertion')
            yield Export(Path(path).name, node.name, tuple(lacks))


def size_of(path):
    "How a notebook reads: code cells, median and longest cell in lines, cells over 30 lines, lines over 120 characters, words of prose"
    nb = read_notebook(path)
    cells = [[line for line in c['source'].split('\n') if line.strip() and not line.strip().startswith('#|')] for c in code_cells(nb)]
    lengths = [len(lines) for lines in cells if lines] or [0]
    words = sum(len(c['source'].split()) for c in nb['cells'] if c['cell_type'] == 'markdown')
    return dict(cells=len(lengths), median=statistics.median(lengths), longest=max(lengths), over_30=sum(n > 30 for n in lengths),
                wide=sum(len(line) > 120 for lines in cells for line in lines), words=words)


if __name__ == '__main__':
    paths = [Path(p) for p in sys.argv[1:]] or notebooks()
    print(f"{'':20}{'cells':>7}{'median':>8}{'longest':>9}{'over 30':>9}{'wide lines':>12}{'words':>8}")
    for p in paths: print('{:20}{cells:7}{median:8g}{longest:9}{over_30:9}{wide:12}{words:8}'.format(p.stem, **size_of(p)))
    found = [e for p in paths for e in exports(p)]
    bad = [e for e in found if e.lacks]
    for e in bad: print(f"{e.notebook:20} {e.name:24} lacks {'; '.join(e.lacks)}")
    print(f'{len(found)} exports, {len(bad)} unfinished')
    sys.exit(bool(bad))
