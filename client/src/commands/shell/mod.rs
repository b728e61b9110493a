//! The prompt: every command as on the command line, with history and completion.

mod completion;
pub mod words;

use std::collections::BTreeSet;
use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use self::completion::Completion;
use super::console::say;
use super::{Failure, Outcome};

/// Lines of history that are kept.
const HISTORY_LINES: usize = 1000;

/// Reads lines until the end, and gives each to `run` as the words of a command line. At a terminal an error is told
/// and the next line read; otherwise the exit code tells of the last error, when all lines were tried.
///
/// # Errors
/// Where the terminal cannot be read; where lines from elsewhere failed.
pub fn shell(commands: &[&str], mut run: impl FnMut(Vec<String>) -> Outcome) -> Outcome {
    let lively = std::io::stdin().is_terminal();
    let config = Config::builder().max_history_size(HISTORY_LINES)?.history_ignore_space(true).build();
    let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Completion::new(commands)));
    let history = history_file();
    if let Some(path) = history.as_ref().filter(|_| lively) {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    if lively {
        say("help lists the commands, Tab completes them, exit or Ctrl-D ends");
    }
    let mut keys = BTreeSet::new();
    let mut failed: Option<Failure> = None;
    loop {
        match editor.readline(if lively { "ringkv> " } else { "" }) {
            Ok(line) => {
                let _ = editor.add_history_entry(line.as_str());
                match one_line(&line, &mut run, &mut keys) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(failure) => {
                        say(&format!("{:#}", failure.error));
                        failed = Some(failure);
                    }
                }
                if let Some(helper) = editor.helper_mut() {
                    helper.know(&keys);
                }
            }
            Err(ReadlineError::Interrupted) if lively => {}
            // The line was read to its end and is gone; those behind it are not.
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                let failure = Failure::usage("this line is no UTF-8, and was not run");
                say(&failure.error.to_string());
                failed = Some(failure);
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = history.filter(|_| lively) {
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        if let Err(error) = editor.save_history(&path) {
            say(&format!("the history was not saved to {}: {error}", path.display()));
        }
    }
    match failed.filter(|_| !lively) {
        Some(failure) => Err(Failure { exit: failure.exit, ..Failure::failed("a line failed, see above") }),
        None => Ok(()),
    }
}

/// Runs one line; true where it was the last.
fn one_line(
    line: &str,
    run: &mut impl FnMut(Vec<String>) -> Outcome,
    keys: &mut BTreeSet<String>,
) -> Result<bool, Failure> {
    if line.trim_start().starts_with('#') {
        return Ok(false);
    }
    let words = words::in_our_form(words::split(line)?);
    match words.first().map(String::as_str) {
        None => return Ok(false),
        Some("exit" | "quit") => return Ok(true),
        Some("shell") => return Err(Failure::usage("this is the shell already")),
        Some("put" | "insert" | "update" | "get") if words.len() > 1 => {
            let separator = words.iter().position(|word| word == "--");
            keys.extend(words.get(separator.map_or(1, |at| at + 1)).cloned());
        }
        Some(_) => {}
    }
    run(words).map(|()| false)
}

/// Where the history is kept: the user's folder for states.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    Some(state.filter(|path| path.is_absolute()).or_else(home)?.join("ringkv/history"))
}
