#!/usr/bin/env bash
# Prints the path of a real kubectl for the tests: Debian trixie's (1.32), fetched once into a cache.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WASMORCH_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wasmorch-tests}
kubectl=$cache/kubectl/usr/bin/kubectl
[ -x "$kubectl" ] && { echo "$kubectl"; exit 0; }
source tools/private-apt.sh
mkdir -p "$(dirname "$kubectl")"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "kubectl: fetching Debian's" >&2
private_apt "$work/apt" "${KUBECTL_DEBIAN_SUITE:-trixie}"
(cd "$work" && apt-get -qq download kubectl >&2)
dpkg-deb -x "$work"/kubectl_*.deb "$work/root"
# Whole or not at all, also when two fetch at once.
mv -f "$work/root/usr/bin/kubectl" "$kubectl"
echo "$kubectl"
