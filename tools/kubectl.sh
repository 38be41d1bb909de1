#!/usr/bin/env bash
# Prints the path of a real kubectl for the tests: Debian trixie's (1.32), fetched once into a cache
# with a private apt state, so that neither root nor a change to /etc/apt is needed.
set -euo pipefail
cache=${WASMORCH_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wasmorch-tests}/kubectl
[ -x "$cache/usr/bin/kubectl" ] && { echo "$cache/usr/bin/kubectl"; exit 0; }
say() { printf '%s\n' "kubectl: $*" >&2; }
for tool in apt-get dpkg-deb; do command -v $tool > /dev/null || { say "$tool is not here"; exit 1; }; done
sources=/etc/apt/sources.list
mirror=$({ sed -n 's/^URIs: *//p' "$sources".d/*.sources; awk '$1 == "deb"' "$sources" "$sources".d/*.list; } 2> /dev/null |
  grep -oE 'https?://[^ ]+' | grep -v security | head -1) || true
[ -n "$mirror" ] || { say "no Debian mirror is configured under /etc/apt"; exit 1; }
mkdir -p "$(dirname "$cache")"
apt=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror ${KUBECTL_DEBIAN_SUITE:-trixie} main" > "$apt/sources.list"
: > "$apt/status"
cat > "$apt/apt.conf" << CONF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
export APT_CONFIG=$apt/apt.conf
say "fetching Debian's kubectl"
apt-get -qq update >&2
(cd "$apt" && apt-get -qq download kubectl >&2)
dpkg-deb -x "$apt"/kubectl_*.deb "$apt/root"
# Whole or not at all, also when two fetch at once.
mkdir -p "$cache/usr/bin"
mv -f "$apt/root/usr/bin/kubectl" "$cache/usr/bin/kubectl"
echo "$cache/usr/bin/kubectl"
