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
for member in ledger-client ledger-server meter shop-catalog shop-gateway shop-inventory shop-orders shop-payments shopper toolbox; do
  cp "$target/wasm32-wasip2/release/$member.wasm" "$out/"
done
for member in hello-http hello-wasip3; do
  cp "$target/wasm32-wasip2/release/${member//-/_}.wasm" "$out/$member.wasm"
done

# C by Debian's clang, AssemblyScript by npm's asc; see their READMEs.
if ! command -v clang-22 > /dev/null; then
  echo "for C: apt-get install clang-22 lld-22 libclang-rt-22-dev-wasm32 wasi-libc" >&2
  exit 1
fi
clang-22 --target=wasm32-wasi -Wno-deprecated -O2 -s counter-c/counter.c -o "$out/counter-c.wasm"
asc=$(mktemp -d)
trap 'rm -rf "$asc"' EXIT
cp primes-assemblyscript/*.ts primes-assemblyscript/package*.json "$asc/"
(cd "$asc" && npm ci --silent && npx asc primes.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json \
  -O2 -o "$out/primes-assemblyscript.wasm")

# One line per guest: the hash of what it was built from. tests/guests.rs compares.
for wasm in "$out"/*.wasm; do
  name=$(basename "$wasm" .wasm)
  cargo=()
  [ -e "$name/Cargo.toml" ] && cargo=(Cargo.toml Cargo.lock)
  sources=$(find "${cargo[@]}" "$name" -type f ! -name README.md ! -name "*.yaml" | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
  printf '%s %s %s\n' "$name" "$(sha256sum < "$wasm" | cut -d' ' -f1)" "$sources"
done > "$out/SOURCES"
if [ "${1:-}" = --check ]; then
  diff -r "$out" prebuilt && echo "prebuilt guests are up to date"
fi
