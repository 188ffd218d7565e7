"""Takes the outputs of folded solutions out of the notebooks: a student who looks at the page has still to answer.

    python scripts/clear_answers.py

`make export` calls it, so that a notebook that was run as a whole can be committed."""
import json
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1]/'nbs'


def is_answer(cell):
    "Is it a folded cell that gives an answer away?"
    source = ''.join(cell['source'])
    return cell['cell_type'] == 'code' and '#| code-fold: true' in source and '#| code-summary: "Solution"' in source


def clear(path):
    "Rewrite a notebook without those outputs, if it has any"
    nb = json.loads(path.read_text(encoding='utf-8'))
    shown = [c for c in nb['cells'] if is_answer(c) and c['outputs']]
    for c in shown: c['outputs'] = []
    text = json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n'
    if shown: path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    for path in sorted(NOTEBOOKS.glob('[0-9]*.ipynb')): clear(path)
