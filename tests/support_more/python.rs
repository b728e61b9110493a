//! Python with pyzmq and xxhash: clients that know nothing of ringkv's own code.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{run, skipped};

/// A Python that has what the scripts import.
pub struct Python(PathBuf);

impl Python {
    /// The interpreter of a virtual environment that is made once; `None` after saying why there is none.
    pub fn of(test: &str) -> Option<Python> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        // One at a time: tests run in several threads and programs. A marker at the end, because one may be interrupted.
        let make = r#"mkdir -p "$0" && exec 9>"$0.lock" && flock 9 || exit 1
            [ -e "$0/complete" ] && exit 0
            rm -rf "$0" && python3 -m venv "$0" && "$0/bin/pip" install --quiet pyzmq xxhash && touch "$0/complete""#;
        let made = run(Command::new("bash").args(["-c", make]).arg(&folder));
        if made.code != Some(0) {
            skipped(test, &format!("no Python with pyzmq and xxhash: {}", made.stderr.trim()));
            return None;
        }
        Some(Python(folder.join("bin/python")))
    }

    /// A script of `tests/python`.
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(script(&format!("tests/python/{name}")));
        command
    }

    /// The interpreter itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A file of the repository.
pub fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
