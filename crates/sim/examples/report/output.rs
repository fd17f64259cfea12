//! What an experiment writes: a CSV file and plots named after it, and its lines of `summary.csv`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const SUMMARY: &str = "summary.csv";
const HEADER: &str = "name,value,threshold,holds";

/// What one experiment has to say.
pub(crate) struct Output {
    folder: PathBuf,
    experiment: &'static str,
    summary: String,
}

impl Output {
    pub(crate) fn begin(folder: &Path, experiment: &'static str) -> Self {
        std::fs::create_dir_all(folder).expect("the folder can be made");
        Self { folder: folder.to_owned(), experiment, summary: String::new() }
    }

    /// Tells whoever waits, on standard error.
    pub(crate) fn tell(&self, text: &str) {
        eprintln!("  {text}");
    }

    /// A figure that may not be greater.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, threshold: f64) {
        self.judge(name, value, threshold, value <= threshold);
    }

    /// A figure that may not be less.
    pub(crate) fn at_least(&mut self, name: &str, value: f64, threshold: f64) {
        self.judge(name, value, threshold, value >= threshold);
    }

    fn judge(&mut self, name: &str, value: f64, threshold: f64, holds: bool) {
        self.tell(&format!("{name}: {value:.2} (threshold {threshold}: {})", if holds { "holds" } else { "MISSED" }));
        let _ = writeln!(self.summary, "{}: {name},{value:.2},{threshold},{holds}", self.experiment);
    }

    /// Writes a table of the experiment, and tells it.
    pub(crate) fn csv(&self, name: &str, header: &str, rows: &[String]) {
        for row in rows {
            self.tell(row);
        }
        self.write(&format!("{name}.csv"), &format!("{header}\n{}\n", rows.join("\n")));
    }

    pub(crate) fn svg(&self, name: &str, drawing: &str) {
        self.write(&format!("{name}.svg"), drawing);
    }

    /// Puts the experiment's lines into the summary in the place of those it had, in the order of the experiments.
    pub(crate) fn end(self) {
        let before = std::fs::read_to_string(self.folder.join(SUMMARY)).unwrap_or_default();
        let of = |line: &str| line.split_once(": ").map(|(experiment, _)| experiment.to_owned());
        let others = before.lines().skip(1).filter(|line| of(line).is_some_and(|of| of != self.experiment));
        let mut lines: Vec<&str> = others.chain(self.summary.lines()).collect();
        let place = |line: &&str| of(line).and_then(|of| crate::EXPERIMENTS.iter().position(|(name, _)| *name == of));
        lines.sort_by_key(place);
        self.write(SUMMARY, &format!("{HEADER}\n{}\n", lines.join("\n")));
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).expect("the folder can be written to");
    }
}
