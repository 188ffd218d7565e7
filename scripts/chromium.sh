#!/usr/bin/env bash
# A Chromium for the browser tests (tests/test_browser.py), from the system's packages: does nothing where one is found.
set -u
for name in chromium chromium-browser google-chrome-stable google-chrome; do
  if command -v "$name" >/dev/null; then echo "browser tests: $(command -v "$name")"; exit 0; fi
done
die() { echo "browser tests: $*" >&2; exit 1; }
command -v apt-get >/dev/null || die "no Chromium, and no apt-get to install it with: install it (macOS: brew install --cask chromium), or name yours: CHROMIUM=/path/to/chromium"
root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || die "no Chromium: as root, apt-get install chromium"
  root=(sudo -n)
fi
echo 'browser tests: installing chromium'
export DEBIAN_FRONTEND=noninteractive
{ "${root[@]}" apt-get update -qq && "${root[@]}" apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
  die "apt-get could not install chromium: see above, or name yours: CHROMIUM=/path/to/chromium"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || die "chromium was installed, but it is not on the PATH"
