# The ONNX backend suite through generated code, at the levels scalar and v3: every case that is not excluded
# passes, and none that is excluded does. Needs Python; installs the pinned `onnx` unless EDGEC_ONNX_PYTHON
# names an interpreter that has it.
if ! command -v python3 >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "SKIPPED: no python3 for the conformance suite"
    exit 0
  fi
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends python3 python3-venv
fi
cargo run --release --quiet -p edgec-tests --bin conformance
