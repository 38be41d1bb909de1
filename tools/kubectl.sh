#!/usr/bin/env bash
# Prints the path of a real kubectl for the tests, fetched once into a cache.
#
#   tools/kubectl.sh         Debian trixie's (1.32): WebSocket, OpenAPI v3, protobuf bodies
#   tools/kubectl.sh 1.20    Debian bookworm's (1.20): SPDY, OpenAPI v2, JSON bodies
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WASMORCH_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wasmorch-tests}
case ${1:-} in
  '') name=kubectl suite=${KUBECTL_DEBIAN_SUITE:-trixie} package=kubectl ;;
  1.20) name=kubectl-1.20 suite=bookworm package=kubernetes-client ;;
  *) echo "usage: tools/kubectl.sh [1.20]" >&2; exit 2 ;;
esac
kubectl=$cache/$name/usr/bin/kubectl
[ -x "$kubectl" ] && { echo "$kubectl"; exit 0; }
source tools/private-apt.sh
mkdir -p "$(dirname "$kubectl")"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "$name: fetching Debian's" >&2
private_apt "$work/apt" "$suite"
(cd "$work" && apt-get -qq download "$package" >&2)
dpkg-deb -x "$work/$package"_*.deb "$work/root"
# Whole or not at all, also when two fetch at once.
mv -f "$work/root/usr/bin/kubectl" "$kubectl"
echo "$kubectl"
