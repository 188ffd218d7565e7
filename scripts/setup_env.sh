#!/usr/bin/env bash
# Makes the environment VENV (first argument) with EchoMotion and its development requirements in it.
# PYTHON names the interpreter; without it the newest of 3.13 to 3.10 is taken.
set -u
venv=${1:?usage: setup_env.sh FOLDER}
log=$venv/install.log

say() { printf '%s\n' "$*"; }
die() { printf 'echomotion setup: %s\n' "$*" >&2; exit 1; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }
can_venv() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

find_python() {
  local p first=
  for p in python3.13 python3.12 python3.11 python3.10 python3 python; do
    new_enough "$p" || continue
    first=${first:-$p}
    can_venv "$p" && { say "$p"; return; }
  done
  say "$first"
}

if ! new_enough "$venv/bin/python"; then
  python=${PYTHON:-$(find_python)}
  [ -n "$python" ] || die "no Python 3.10 or newer was found. Install one (Debian, Ubuntu: sudo apt install python3 python3-venv;" \
    "macOS: brew install python@3.12; else https://www.python.org/downloads), or name yours: make PYTHON=/path/to/python3"
  new_enough "$python" || die "PYTHON=$python does not run or is older than 3.10. Name another: make PYTHON=/path/to/python3"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  can_venv "$python" || die "Python $version ($python) cannot make environments: its venv or ensurepip module is missing." \
    "Debian, Ubuntu: sudo apt install python$version-venv. Elsewhere name another Python: make PYTHON=/path/to/python3"
  say "Making $venv with Python $version"
  "$python" -m venv --clear "$venv" || die "could not make $venv with $python. Is the disk full, or the folder read-only?"
fi
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip -q >/dev/null 2>&1 \
  || die "there is no pip in $venv. Remove that folder and run make again"

free_gb=$(df -Pk "$venv" | awk 'NR==2 {print int($4/1048576)}')
if [ ! -d "$(echo "$venv"/lib/python3*/site-packages/torch)" ] && [ "${free_gb:-99}" -lt 8 ]; then
  say "Warning: $free_gb GB free on this disk; the packages (PyTorch above all) take about 6 GB."
fi

say "Installing the packages into $venv (PyTorch is large: 1 to 10 minutes the first time; log: $log)"
"$venv/bin/python" -m pip install -q -e '.[dev]' >"$log" 2>&1 &
pip=$!
trap 'kill $pip 2>/dev/null; exit 130' INT TERM
while kill -0 $pip 2>/dev/null; do
  for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 $pip 2>/dev/null || break; done
  kill -0 $pip 2>/dev/null && printf '  ... %4d s, %s so far\n' $SECONDS "$(du -sh "$venv" 2>/dev/null | cut -f1)"
done
wait $pip || {
  tail -n 25 "$log" >&2
  die "the installation failed; the lines above are the end of $log. A network or disk that failed: run make again, it goes on from there"
}

if ! message=$("$venv/bin/python" -c 'import cv2' 2>&1); then
  printf '%s\n' "$message" | tail -n 1 >&2
  case $message in
    *.so*) die "OpenCV needs a system library that is missing here (named above). Debian, Ubuntu: sudo apt install libgl1 libglib2.0-0." \
      "Without root: $venv/bin/pip uninstall -y opencv-python && $venv/bin/pip install --force-reinstall opencv-python-headless" ;;
    *) die "OpenCV does not import. Remove $venv and run make again" ;;
  esac
fi
message=$("$venv/bin/python" -c 'import torch, torchvision' 2>&1) || { printf '%s\n' "$message" | tail -n 1 >&2
  die "PyTorch does not import. Remove $venv and run make again"; }
say "Ready: $("$venv/bin/python" -c 'import sys, torch; print("Python %d.%d.%d, PyTorch" % sys.version_info[:3], torch.__version__)') ($SECONDS s)"
