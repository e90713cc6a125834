# The build-script door as users have it: the compiler as a build dependency in its own workspace.
cargo test --quiet -p edgec-tests --test build_script -- --ignored
