#!/usr/bin/env bash
# The newest packages, as a user gets them: a fresh environment, `pip install .` without the development pins, then
# the demo's main line at a small size and every notebook, run from another folder so that the installed package is what
# runs: as on Colab, where a notebook stands alone.
# Prints 'N passed, N failed' at the end. PYTHON names the interpreter, KEEP=1 leaves the scratch folder.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
command -v "$python" >/dev/null || python=python3
scratch=$(mktemp -d "${TMPDIR:-/tmp}/echomotion-user.XXXXXX")
[ -n "${KEEP:-}" ] || trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

check() {  # check NAME COMMAND...: the output goes to the screen
  local name=$1 start=$SECONDS; shift
  if "$@"; then passed=$((passed + 1)); echo "ok      $name ($((SECONDS - start)) s)"
  else failed=$((failed + 1)); echo "FAILED  $name ($((SECONDS - start)) s)"; fi
}
quietly() {  # quietly COMMAND...: the output only where it fails
  "$@" >"$scratch/log" 2>&1 || { tail -n 30 "$scratch/log"; return 1; }
}
finish() { echo; echo "$passed passed, $failed failed"; exit $((failed > 0)); }

# A copy without what was built here: pip must not find an old build folder.
mkdir "$scratch/source" "$scratch/elsewhere"
(cd "$here" && tar cf - --exclude=.venv --exclude=.git --exclude=build --exclude='*.egg-info' --exclude=runs .) | tar xf - -C "$scratch/source"
"$python" -c 'import sys; print("newest user stack, Python %d.%d.%d" % sys.version_info[:3])'

check 'a fresh environment' quietly "$python" -m venv "$scratch/venv"
bin=$scratch/venv/bin
echo 'pip install . (1 to 10 minutes)'
check 'pip install .' quietly "$bin/python" -m pip install -q "$scratch/source"
[ $failed = 0 ] || finish
cd "$scratch/elsewhere" || exit 1
export ECHOMOTION_HOME=$scratch/cache MPLBACKEND=agg
check 'pip check' quietly "$bin/python" -m pip check
check 'versions' "$bin/python" - "$scratch/venv" <<'EOP'
import sys
from importlib.metadata import version, PackageNotFoundError
import echomotion
assert echomotion.__file__.startswith(sys.argv[1]), f'not the installed package: {echomotion.__file__}'
names = 'echomotion torch torchvision fastai fastcore numpy pandas opencv-python pillow matplotlib scikit-learn pydicom ipywidgets anywidget'
print('  ' + '  '.join(f'{n} {version(n)}' for n in names.split()))
for n in ('nbdev', 'execnb', 'jupyterlab'):
    try: sys.exit(f'{n} {version(n)} came along: a development requirement among those of users')
    except PackageNotFoundError: pass
EOP
check 'every module imports' "$bin/python" -c '
import importlib, pkgutil, echomotion
for m in pkgutil.iter_modules(echomotion.__path__):
    if not m.name.startswith("_"): importlib.import_module("echomotion." + m.name)'
check 'echomotion --help' quietly "$bin/echomotion" --help
check 'echomotion demo --small' "$bin/echomotion" demo --small --out demo
check 'the report is whole' "$bin/python" - <<'EOP'
import csv, json
from pathlib import Path
out = Path('demo')
rows = list(csv.DictReader(open(out/'predictions.csv')))
assert rows, 'no predictions'
assert json.loads((out/'metrics.json').read_text()), 'no figures'
report = next(out.glob('*.html')).read_text()
assert len(report) > 20_000 and '</html>' in report, 'the report is not whole'
assert (out/'weights.safetensors').stat().st_size > 10_000, 'no weights'
EOP
check 'a second run picks up what is there' "$bin/echomotion" demo --small --out demo
cine=$("$bin/python" -c 'from echomotion.data import example_dicom; print(example_dicom())')
check 'echomotion ef of a real DICOM cine' "$bin/echomotion" ef "$cine" --model demo --out ef
check 'its overlay, curve, table and page' test "$(ls ef | wc -l)" = 4

# The notebooks as a student has them: the file alone in a folder, a fresh kernel, no development tools.
check 'Jupyter, to run notebooks' quietly "$bin/python" -m pip install -q nbclient ipykernel
export JUPYTER_PATH=$scratch/venv/share/jupyter
# Two at a time with one thread each, which serves two cores best.
cp "$scratch"/source/nbs/0[0-7]*.ipynb .   # those after need minutes each, or an extra
run() {
  local start=$SECONDS
  "$bin/jupyter-execute" --timeout=600 "$1" >"$scratch/$1.log" 2>&1 && echo "$((SECONDS - start))" >"$scratch/$1.took"
}
export -f run; export scratch bin
printf '%s\n' *.ipynb | env -u MPLBACKEND OMP_NUM_THREADS=1 xargs -P 2 -I{} bash -c 'run "$1"' - {}
for notebook in *.ipynb; do
  if [ -s "$scratch/$notebook.took" ]; then passed=$((passed + 1)); echo "ok      runs top to bottom: $notebook ($(cat "$scratch/$notebook.took") s)"
  else failed=$((failed + 1)); tail -n 30 "$scratch/$notebook.log"; echo "FAILED  runs top to bottom: $notebook"; fi
done
finish
