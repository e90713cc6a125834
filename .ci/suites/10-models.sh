# Real models by others, through generated code, at every level this machine has.
if [ ! -d "$EDGEC_MODELS" ]; then
  echo "SKIPPED: no models at $EDGEC_MODELS (set EDGEC_MODELS)"
  exit 0
fi
cargo build --release --quiet -p edgec
# Recurrence, control flow, ai.onnx.ml and quantized models come with later work: unsupported cases
# are skipped, a wrong number fails.
target/release/edgec verify --suite "$EDGEC_MODELS" --allow-unsupported
