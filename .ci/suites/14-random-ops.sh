# Operators on random shapes, attributes and element types: generated code against the reference evaluation, at every level
# that this machine has. Seed 1 draws a pair of resizes in one crate at which LLVM 22.1 (rustc 1.95) fails while it
# allocates registers; the crates of each of the two alone build.
cargo run --release --quiet -p edgec-tests --bin random_ops -- --seed 3
