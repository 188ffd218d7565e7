#!/usr/bin/env bash
# A Chromium for the browser tests (tests/test_browser.py) and an Xvfb for the window of `echomotion live` (tests/test_live.py),
# from the system's packages: does nothing where they are found.
set -u
for name in chromium chromium-browser google-chrome-stable google-chrome; do
  if command -v "$name" >/dev/null; then
    echo "browser tests: $(command -v "$name")"
    if command -v Xvfb >/dev/null || ! command -v apt-get >/dev/null; then exit 0; fi
    break
  fi
done
die() { echo "browser tests: $*" >&2; exit 1; }
command -v apt-get >/dev/null || die "no Chromium, and no apt-get to install it with: install it (macOS: brew install --cask chromium), or name yours: CHROMIUM=/path/to/chromium"
root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || die "no Chromium: as root, apt-get install chromium"
  root=(sudo -n)
fi
echo 'browser tests: installing chromium and xvfb'
export DEBIAN_FRONTEND=noninteractive
{ "${root[@]}" apt-get update -qq && "${root[@]}" apt-get install -y -qq --no-install-recommends chromium xvfb fonts-dejavu-core; } >/dev/null ||
  die "apt-get could not install chromium: see above, or name yours: CHROMIUM=/path/to/chromium"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || die "chromium was installed, but it is not on the PATH"
