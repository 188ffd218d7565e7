"""The site, as far as it can be checked without Quarto, and the repository's own files."""
import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from exports import ROOT, notebooks

sys.path.insert(0, str(ROOT/'scripts'))
import check_links
from readme import from_top, readme

BIN = Path(sys.executable).parent
CFG = ConfigParser(delimiters=['='])
CFG.read(ROOT/'settings.ini', encoding='utf-8')
CFG = CFG['DEFAULT']
QUARTO = yaml.safe_load((ROOT/'_quarto.yml').read_text())


def sidebar(items):
    for item in items:
        yield from sidebar(item['contents']) if 'contents' in item else [item['href']]


def test_quarto_configuration_is_the_one_at_the_top():
    link = ROOT/'nbs'/'_quarto.yml'
    assert link.is_symlink() and link.resolve() == ROOT/'_quarto.yml'
    assert not (ROOT/'_quarto.yml').is_symlink()


def test_sidebar_has_every_notebook_in_the_order_of_the_course():
    "Each section in the order of the course; the tools (06, 13) stand after the lessons that use them"
    contents = QUARTO['website']['sidebar']['contents']
    names = list(sidebar(contents))
    assert names[0] == 'index.ipynb' and sorted(names[1:]) == sorted(p.name for p in notebooks() if p.name != 'index.ipynb')
    for section in contents: assert list(sidebar([section])) == sorted(sidebar([section]))


def test_one_version_everywhere():
    import echomotion
    changelog, citation = ((ROOT/name).read_text(encoding='utf-8') for name in ('CHANGELOG.md', 'CITATION.cff'))
    headings = re.findall(r'^## (\S+?)(?:,.*)?$', changelog, re.M)
    assert len(headings) == len(set(headings)), f'a version twice in CHANGELOG.md: {headings}'
    assert CFG['version'] == echomotion.__version__ == headings[0] == re.search(r'^version: (.+)$', citation, re.M)[1]


def test_readme_lists_every_lesson_with_its_badge():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    badge = 'https://colab.research.google.com/github/echomotion/echomotion/blob/main/nbs'
    lessons = [p for p in notebooks() if p.name[0].isdigit()]
    rows = [line for line in text.split('\n') if re.match(r'\| \d+ \| \[', line)]
    missing = [p.name for p in lessons if not any(row.startswith(f'| {int(p.name[:2])} | [') and f'](nbs/{p.name})' in row
                                                  and f'({badge}/{p.name})' in row for row in rows)]
    assert not missing and len(rows) == len(lessons), f'no row, or one without its number, link or badge: {missing}'


@pytest.fixture(scope='session')
def proc(tmp_path_factory):
    "What nbdev hands to Quarto, made from a copy of the tree"
    import shutil
    tree = tmp_path_factory.mktemp('site')/'echomotion'
    tree.mkdir()
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', '_quarto.yml', 'README.md'): shutil.copy2(ROOT/name, tree/name)
    for name in ('nbs', 'echomotion'):
        shutil.copytree(ROOT/name, tree/name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    stub = tree/'bin'/'quarto'   # nbdev would download Quarto where it is missing
    stub.parent.mkdir(); stub.write_text('#!/bin/sh\n'); stub.chmod(0o755)
    env = {**os.environ, 'PATH': f"{stub.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([str(BIN/'nbdev_proc_nbs'), '--n_workers', '1'], cwd=tree, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, done.stdout
    assert (tree/'nbs'/'_quarto.yml').is_symlink(), 'nbdev has replaced the link to _quarto.yml'
    return tree/'_proc'


def pages(proc):
    "Name of the page -> text of the notebook it is made from"
    found = {}
    for path in sorted(proc.glob('*.ipynb')):
        text = '\n'.join(''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] != 'code')
        name = re.search(r'^output-file:\s*(\S+)', text, re.M)
        found[name.group(1) if name else path.with_suffix('.html').name] = path.name, text
    return found


def test_processed_site_is_complete(proc):
    assert yaml.safe_load((proc/'_quarto.yml').read_text()) == QUARTO
    made = yaml.safe_load((proc/'nbdev.yml').read_text())
    assert made['project']['output-dir'] == CFG['doc_path'] and made['website']['title'] == 'EchoMotion'
    assert (proc/QUARTO['format']['html']['css']).exists()
    assert (proc/QUARTO['website']['favicon']).exists()
    assert sorted(p.name for p in proc.glob('*.ipynb')) == [p.name for p in notebooks()]
    assert 'index.html' in pages(proc)


def test_links_between_pages_hold(proc):
    found, bad = pages(proc), []
    sources = {source for source, _ in found.values()}
    home = CFG['doc_host'] + CFG['doc_baseurl'] + '/'
    for page, (source, text) in found.items():
        for link in re.findall(r'\]\(([^)\s]+)', text) + re.findall(r'(?:src|href)="([^"]+)"', text):
            target, _, anchor = link.partition('#')
            if link.startswith(home):
                name = target[len(home):] or 'index.html'
                if name not in found: bad.append((source, link))
                elif anchor and not re.search(rf'\b{re.escape(anchor.split(".")[-1])}\b', found[name][1]): bad.append((source, link))
            elif re.match(r'[a-z]+:', link) or not target: continue
            elif target.endswith('.ipynb'):
                if target not in sources: bad.append((source, link))
            elif not (proc/target).exists() and target not in found: bad.append((source, link))
    assert not bad, f'links that lead nowhere: {bad}'


def test_a_function_has_its_entry_on_the_site(proc):
    cells = json.loads((proc/'03_ef.ipynb').read_text())['cells']
    text = json.dumps(cells)
    assert 'ejection_fraction' in text and 'end-diastole' in text


def test_readme_is_made_from_the_index():
    assert (ROOT/'README.md').read_text(encoding='utf-8') == readme(), 'run: make export'


def test_readme_shows_what_matters_first():
    screen = (ROOT/'README.md').read_text(encoding='utf-8').split('\n')[:40]
    text = '\n'.join(screen)
    assert 'make demo' in text and 'make test' in text, 'the two commands within the first screen'
    assert re.search(r'!\[[^\]]+\]\(nbs/images/|<img [^>]*src="nbs/images/', text), 'a picture within the first screen'
    assert 'not a medical device' in text.lower()


def test_readme_links_hold():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    links = re.findall(r'\]\(([^)\s]+)', text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert not [l for l in links if not re.match(r'[a-z]+:|#', l) and not (ROOT/l.split('#')[0]).exists()]
    for p in notebooks():
        if p.name not in ('index.ipynb', 'glossary.ipynb'): assert f'blob/main/nbs/{p.name}' in text, f'a Colab badge for {p.name}'


def test_links_from_the_top_of_the_repository():
    assert from_top('![x](images/a.png) [d](00_data.ipynb) [w](https://a.b/images/c)') == \
        '![x](nbs/images/a.png) [d](nbs/00_data.ipynb) [w](https://a.b/images/c)'


def test_link_checker_finds_what_is_broken(tmp_path):
    home = check_links.home()
    (tmp_path/'index.html').write_text(f'<h2 id="a"></h2><a href="b.html#c"></a><a href="#a"></a><a href="{home}/b.html"></a>')
    (tmp_path/'b.html').write_text('<p id="c"></p><a href="gone.html"></a><img src="gone.png"><a href="index.html#b"></a><a href="https://x.y"></a>')
    assert [(str(p), l) for p, l, _ in check_links.broken(tmp_path)] == [
        ('b.html', 'gone.html'), ('b.html', 'gone.png'), ('b.html', 'index.html#b')]


def test_development_pins_stay_out_of_what_users_install():
    users = CFG['requirements']
    assert 'nbdev' not in users and 'execnb' not in users and 'jupyterlab' not in users and '<' not in users
    assert 'nbdev>=2.4.14,<3' in CFG['dev_requirements'] and 'execnb<0.2' in CFG['dev_requirements']


def test_workflows_are_pinned():
    for path in (ROOT/'.github'/'workflows').glob('*.yml'):
        text = path.read_text()
        assert yaml.safe_load(text)['jobs']
        for action in re.findall(r'uses:\s*(\S+)', text):
            assert re.search(r'@v\d+\.\d+\.\d+$', action), f'{path.name}: {action} is not pinned by its full version'
        assert 'install -U nbdev' not in text


def test_versions_agree():
    import echomotion
    assert echomotion.__version__ == CFG['version']
    assert yaml.safe_load((ROOT/'CITATION.cff').read_text())['version'] == CFG['version']
    assert CFG['version'] in (ROOT/'CHANGELOG.md').read_text()


@pytest.mark.parametrize('target', ['help', 'demo', 'test', 'lab', 'docs', 'bench', 'clean'])
def test_make_help_names_every_target(target):
    done = subprocess.run(['make', '-C', str(ROOT), '--no-print-directory'], text=True, capture_output=True)
    assert re.search(rf'^  make {target}\b', done.stdout, re.M)


@pytest.mark.parametrize('script', ['scripts/setup_env.sh', 'scripts/user_stack.sh', 'scripts/chromium.sh', '.ci/run'])
def test_shell_scripts_parse(script):
    subprocess.run(['bash', '-n', str(ROOT/script)], check=True)


def test_setup_says_what_to_do_without_a_python(tmp_path):
    "A machine whose only Python is too old, and one whose Python cannot make environments"
    script = str(ROOT/'scripts'/'setup_env.sh')
    tools = tmp_path/'bin'; tools.mkdir()
    for name in ('bash', 'dirname', 'mktemp', 'cut', 'du', 'df', 'awk', 'tail'):
        found = subprocess.run(['which', name], text=True, capture_output=True).stdout.strip()
        if found: (tools/name).symlink_to(found)
    def setup(**env):
        return subprocess.run([str(tools/'bash'), script, str(tmp_path/'venv')], text=True, capture_output=True,
                              env={'PATH': str(tools), **env})
    done = setup()
    assert done.returncode == 1 and 'no Python 3.10 or newer' in done.stderr and 'make PYTHON=' in done.stderr
    old = tools/'python3'
    old.write_text('#!/bin/bash\ncase "$*" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac\nexit 0\n'); old.chmod(0o755)
    done = setup()
    assert done.returncode == 1 and 'apt install python3.11-venv' in done.stderr
    assert not (tmp_path/'venv').exists()
    done = setup(PYTHON='/nowhere/python3')
    assert done.returncode == 1 and 'PYTHON=/nowhere/python3' in done.stderr
