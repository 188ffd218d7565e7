"""Writes README.md from nbs/index.ipynb: its markdown cells, with links that hold from the top of the repository.

Quarto can do this as well, but not everybody has it, and two ways to one file would never agree. The figures of the
weights are put into their cell of the notebook first, from the tables beside the weights: nobody types them."""
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT/'nbs'/'index.ipynb'
MARK = '<!-- made from nbs/index.ipynb by scripts/readme.py: edit the notebook, then run `make export` -->\n\n'
FIGURES = '<!-- filled by scripts/readme.py from the tables in echomotion/weights -->'   # how their cell begins


def from_top(text):
    "`text` with the links of nbs/ turned into links from the top folder"
    return re.sub(r'(\]\(|src="|href=")(?=images/|\d\d_\w+\.ipynb)', r'\1nbs/', text)


def fill_figures():
    "What the weights are worth, written into its cell of the index"
    from echomotion.cli import weights_figures
    before = INDEX.read_text(encoding='utf-8')
    nb = json.loads(before)
    cell, = [c for c in nb['cells'] if ''.join(c['source']).startswith(FIGURES)]
    cell['source'] = f"{FIGURES}\n\n{weights_figures(ROOT/'echomotion'/'weights')}".splitlines(True)
    after = json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n'
    if after != before: INDEX.write_text(after, encoding='utf-8')


def readme():
    "The text of README.md"
    nb = json.loads(INDEX.read_text(encoding='utf-8'))
    cells = [''.join(c['source']).strip() for c in nb['cells'] if c['cell_type'] == 'markdown']
    return MARK + from_top('\n\n'.join(cells)) + '\n'


if __name__ == '__main__':
    fill_figures()
    new, path = readme(), ROOT/'README.md'
    if not path.exists() or path.read_text(encoding='utf-8') != new: path.write_text(new, encoding='utf-8')
