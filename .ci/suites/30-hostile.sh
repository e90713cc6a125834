# Ten thousand damaged models under a limit on memory: a diagnostic each, never a panic.
cargo test --quiet -p edgec --test hostile --no-run
(
  ulimit -v 1500000
  EDGEC_HOSTILE=10000 cargo test --quiet -p edgec --test hostile
)
