//! Where results go, and what is said beside them.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Outcome;
use super::files::unwritable;

/// A command's output.
pub struct Console<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// Whether progress may be drawn: on a terminal only.
    lively: bool,
}

impl<'a> Console<'a> {
    /// Results go to `out`, as JSON where that is wanted.
    pub fn new(out: &'a mut dyn Write, json: bool) -> Console<'a> {
        Console { out, json, lively: std::io::stderr().is_terminal() }
    }

    /// The same output for one command of several, as JSON where that is wanted.
    pub fn for_one(&mut self, json: bool) -> Console<'_> {
        Console { out: self.out, json, lively: self.lively }
    }

    /// Lets what was written go out.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn flush(&mut self) -> Outcome {
        written(self.out.flush())
    }

    /// Whether results are for programs.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A line of results.
    pub(super) fn line(&mut self, text: &str) -> Outcome {
        written(writeln!(self.out, "{text}"))
    }

    /// A result as one line of JSON.
    pub(super) fn object(&mut self, value: &(impl Serialize + ?Sized)) -> Outcome {
        let text = serde_json::to_string(value)?;
        self.line(&text)
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        written(self.out.write_all(bytes).and_then(|()| self.out.flush()))
    }

    /// A result for programs, or the lines of one for people.
    pub(super) fn either(&mut self, json: &impl Serialize, people: impl FnOnce() -> String) -> Outcome {
        if self.json { self.object(json) } else { self.line(people().trim_end_matches('\n')) }
    }

    /// Something that is no result: to standard error, where it may fail unheard.
    pub fn say(&self, text: &str) {
        say(text);
    }

    /// A bar of so many steps, drawn where standard error is a terminal. `unit` names the steps.
    pub(super) fn bar(&self, length: u64, unit: &str) -> ProgressBar {
        if !self.lively {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length);
        let form = format!(
            "{{msg}} [{{bar:36}}] {{human_pos}} of {{human_len}} {unit} · {{per_sec}} · {{eta}} left"
        );
        // Only a wrong template could be refused, and this one is ours.
        bar.set_style(ProgressStyle::with_template(&form).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A bar whose end is not known.
    pub(super) fn spinner(&self, unit: &str) -> ProgressBar {
        if !self.lively {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner();
        let form = format!("{{spinner}} {{msg}} {{human_pos}} {unit} · {{per_sec}}");
        bar.set_style(
            ProgressStyle::with_template(&form).unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// Whether standard error is a terminal, on which bars are drawn.
    pub(super) fn is_lively(&self) -> bool {
        self.lively
    }
}

/// What came of writing results.
fn written(result: std::io::Result<()>) -> Outcome {
    result.map_err(|error| match error.kind() {
        // Whoever read it has seen enough.
        ErrorKind::BrokenPipe => error.into(),
        _ => unwritable("standard output", &error, ""),
    })
}

/// Something that is no result, said without a console.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
