"""Writes README.md from nbs/index.ipynb: its markdown cells, with links that hold from the top of the repository.

Quarto can do this as well, but not everybody has it, and two ways to one file would never agree."""
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = '<!-- made from nbs/index.ipynb by scripts/readme.py: edit the notebook, then run `make export` -->\n\n'


def from_top(text):
    "`text` with the links of nbs/ turned into links from the top folder"
    return re.sub(r'(\]\(|src="|href=")(?=images/|\d\d_\w+\.ipynb)', r'\1nbs/', text)


def readme():
    "The text of README.md"
    nb = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    cells = [''.join(c['source']).strip() for c in nb['cells'] if c['cell_type'] == 'markdown']
    return MARK + from_top('\n\n'.join(cells)) + '\n'


if __name__ == '__main__':
    new, path = readme(), ROOT/'README.md'
    if not path.exists() or path.read_text(encoding='utf-8') != new: path.write_text(new, encoding='utf-8')
