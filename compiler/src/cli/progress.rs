//! What long work shows on standard error: a bar or a spinner on a terminal, a plain line elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// A count of things to do. It vanishes when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// `total` things are to be done, such as `running 56 models`.
    pub fn count(what: &str, total: usize) -> Progress {
        Progress::new(what, Some(total))
    }

    /// Something that takes a while.
    pub fn wait(what: &str) -> Progress {
        Progress::new(what, None)
    }

    fn new(what: &str, total: Option<usize>) -> Progress {
        if !std::io::stderr().is_terminal() {
            super::say(&format!("{what}\n"));
            return Progress(ProgressBar::hidden());
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total as u64), "{msg} [{bar:30}] {pos}/{len}"),
            None => (ProgressBar::new_spinner(), "{msg} {spinner} {elapsed}"),
        };
        // The templates are ours; were one wrong, the default would do.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// One more is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
