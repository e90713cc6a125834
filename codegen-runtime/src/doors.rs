//! What generated code uses where it stands in a crate of the user: in a build script's output, or in
//! the expansion of a macro. Not part of the copy that generated packages hold.

/// Passes items on, since this crate has its feature `alloc`.
#[cfg(feature = "alloc")]
#[doc(hidden)]
#[macro_export]
macro_rules! when_alloc {
    ($($item:item)*) => { $($item)* };
}

/// Passes items on, since this crate has its feature `threads`.
#[cfg(feature = "threads")]
#[doc(hidden)]
#[macro_export]
macro_rules! when_threads {
    ($($item:item)*) => { $($item)* };
}

/// Drops items, since this crate lacks its feature `threads`.
#[cfg(not(feature = "threads"))]
#[doc(hidden)]
#[macro_export]
macro_rules! when_threads {
    ($($item:item)*) => {};
}

/// Drops items, since this crate lacks its feature `alloc`.
#[cfg(not(feature = "alloc"))]
#[doc(hidden)]
#[macro_export]
macro_rules! when_alloc {
    ($($item:item)*) => {};
}
