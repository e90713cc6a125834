# Release builds of models that together use every kernel family: nothing that panics, allocates or was not inlined.
cargo test --quiet -p edgec-tests --test no_panic -- --ignored
