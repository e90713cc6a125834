# Emitted crates compile for other targets. Needs Debian's packages and the sysroots that
# ../shared/cross describes; without that folder, or without apt, it is skipped.
cross=$PWD/../shared/cross
if [ ! -d "$cross" ] || ! command -v apt-get >/dev/null; then
  echo "SKIPPED: no cross compilers (../shared/cross is absent)"
  exit 0
fi
sh "$cross/setup.sh"
sh "$cross/tools/mk-sysroot.sh" thumbv7em-none-eabihf wasm32-unknown-unknown aarch64-unknown-linux-gnu
cargo test --quiet -p edgec-tests --test cross -- --ignored
