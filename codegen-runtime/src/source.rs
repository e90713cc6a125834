//! The runtime's own source text, for the compiler that copies it into generated crates.

/// Every source file: its path below `src`, with `/`, and its text; sorted by path.
pub static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/source_files.rs"));

/// The licence of that copy, which asks nothing of anyone.
pub static LICENSE: &str = include_str!("../LICENSE-0BSD");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_a_root_and_is_sorted() {
        assert!(FILES.iter().any(|(path, text)| *path == "lib.rs" && text.contains("#![no_std]")));
        assert!(FILES.is_sorted());
    }
}
