#!/usr/bin/env bash
# Rebuilds guest-examples/prebuilt/ from source. Needs the wasm32 targets: from rustup, or (with
# GUEST_STD_VIA=debian) from package registries alone; see tools/guest-toolchain.sh.
#
#   guest-examples/build.sh            rebuild everything and write prebuilt/SOURCES
#   guest-examples/build.sh --check    rebuild elsewhere and compare byte for byte
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${CARGO_HOME:-$HOME/.cargo}
cd "$here"
cargo fetch --quiet --locked
export GUEST_RUSTFLAGS="--remap-path-prefix=$here=/guests"
for sources in "$home"/registry/src/*/; do GUEST_RUSTFLAGS+=" --remap-path-prefix=${sources%/}=/cargo"; done
eval "$("$here/../tools/guest-toolchain.sh")"
: "${CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS:=$GUEST_RUSTFLAGS}" "${CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS:=$GUEST_RUSTFLAGS}"
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS
target=${GUEST_TARGET_DIR:-$here/target}
out=$here/prebuilt
[ "${1:-}" = --check ] && out=$(mktemp -d)
mkdir -p "$out"
cd "$here"
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked --target wasm32-wasip1 -p echo-wasip1
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked --target wasm32-wasip2 --workspace --exclude echo-wasip1
cp "$target/wasm32-wasip1/release/echo-wasip1.wasm" "$out/"
for member in ledger-client ledger-server shop-catalog shop-gateway shop-inventory shop-orders shop-payments shopper toolbox; do
  cp "$target/wasm32-wasip2/release/$member.wasm" "$out/"
done
for member in hello-http hello-wasip3; do
  cp "$target/wasm32-wasip2/release/${member//-/_}.wasm" "$out/$member.wasm"
done
# One line per guest: the hash of what it was built from. tests/guests.rs compares.
for wasm in "$out"/*.wasm; do
  name=$(basename "$wasm" .wasm)
  sources=$(find Cargo.toml Cargo.lock "$name" -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
  printf '%s %s %s\n' "$name" "$(sha256sum < "$wasm" | cut -d' ' -f1)" "$sources"
done > "$out/SOURCES"
if [ "${1:-}" = --check ]; then
  diff -r "$out" prebuilt && echo "prebuilt guests are up to date"
fi
