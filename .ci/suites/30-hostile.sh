# Ten thousand damaged models below a gigabyte of address space: a diagnostic each, never a panic.
cargo test --quiet -p edgec --test hostile --no-run
(
  ulimit -v 976562
  EDGEC_HOSTILE=10000 cargo test --quiet -p edgec --test hostile
)
