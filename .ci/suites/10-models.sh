# Real models by others, through generated code, at every level this machine has.
if [ ! -d "$EDGEC_MODELS" ]; then
  echo "SKIPPED: no models at $EDGEC_MODELS (set EDGEC_MODELS)"
  exit 0
fi
cargo build --release --quiet -p edgec
# Recurrence and control flow come with later work: unsupported cases are skipped, a wrong number fails.
#
# Known to fail: mnv2_224_int8. The record holds what one runtime's float arithmetic makes of ties in requantization,
# amplified by 52 layers on noise; evaluation in f64 is as far from it as we are. Integer kernels may mend it.
known=mnv2_224_int8
target/release/edgec verify --suite "$EDGEC_MODELS" --allow-unsupported --exclude "$known"
if target/release/edgec verify --suite "$EDGEC_MODELS" --only "$known" --level v3; then
  echo "$known passes: take it off the list of models that are known to fail"
  exit 1
fi
