//! What the README and `docs/ring.md` show is what happens: every command in order, every output, every snippet.
//!
//! In a network namespace, because they use the default ports.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use support::{kill, until};
use support_more::{
    Python, Ran, consul_binary, in_a_network_of_its_own, programs_on_path, run, script, skipped,
};

/// A network of its own, a folder to work in, and the programs on the path.
struct Place {
    holder: Child,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(test: &str) -> Option<Place> {
        let Some(consul) = consul_binary() else {
            skipped(test, "no consul");
            return None;
        };
        let Some(mut command) = in_a_network_of_its_own(Path::new("sh")) else {
            skipped(test, "no network namespaces here");
            return None;
        };
        // It holds the namespace until its input closes: so it ends with us, however we end.
        command.args(["-c", "ip link set lo up && echo up && exec cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "the loopback of the namespace");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        symlink(&consul, folder.path().join("bin/consul")).unwrap();
        Some(Place { holder, folder })
    }

    /// What a shell there runs. The shell is replaced by it, so a signal reaches it.
    fn command(&self, line: &str) -> Command {
        let pid = self.holder.id();
        let user = format!("/proc/{pid}/ns/user");
        let mut command = Command::new("nsenter");
        if fs::read_link(&user).unwrap() != fs::read_link("/proc/self/ns/user").unwrap() {
            command.args([&format!("--user={user}"), "--preserve-credentials"]);
        }
        command.arg(format!("--net=/proc/{pid}/ns/net")).args(["bash", "-c", &format!("exec {line}")]);
        let mut path = self.folder.path().join("bin").into_os_string();
        path.push(":");
        path.push(programs_on_path());
        command.current_dir(self.folder.path()).env("PATH", path).stdin(Stdio::null());
        for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_SSL"] {
            command.env_remove(name);
        }
        command
    }

    /// A command that keeps running, `line` being without its `&`.
    fn background(&self, line: &str) -> Background {
        let out = tempfile::NamedTempFile::new().unwrap();
        let err = tempfile::NamedTempFile::new().unwrap();
        let child =
            self.command(line).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).spawn().unwrap();
        Background { line: line.to_owned(), child, out, err }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

struct Background {
    line: String,
    child: Child,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
}

impl Background {
    /// Waits until it has printed these lines, in this order.
    fn prints(&mut self, lines: &[String]) {
        let wanted = lines.join("\n") + "\n";
        until(&format!("{lines:?} from {}", self.line), || {
            let ended = self.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}: {}", self.line, fs::read_to_string(self.err.path()).unwrap());
            fs::read_to_string(self.out.path()).unwrap().contains(&wanted).then_some(())
        });
    }

    /// Ends it by SIGTERM, as a shell that is closed politely.
    fn end(mut self) {
        kill(i32::try_from(self.child.id()).unwrap(), Signal::TERM);
        let status = until(&format!("end of {}", self.line), || self.child.try_wait().unwrap());
        let said = fs::read_to_string(self.err.path()).unwrap();
        // Consul calls an interrupt an error, ours do not.
        assert!(status.success() || self.line.starts_with("consul"), "{}: {status}: {said}", self.line);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            // Its nodes end when their launcher is told to, not when it is killed.
            kill(i32::try_from(self.child.id()).unwrap(), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// A command with the output that is shown below it.
#[derive(Debug)]
struct Shown {
    command: String,
    output: Vec<String>,
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn commands(block: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => all.push(Shown { command: command.to_owned(), output: Vec::new() }),
            None => all.last_mut().expect("a block begins with a command").output.push(line.to_owned()),
        }
    }
    all
}

fn readme() -> String {
    fs::read_to_string(script("README.md")).unwrap()
}

/// Runs a block. A person types slower than a program: what is asked of an agent that was just started, or of a
/// change that was just signalled, is asked until it answers.
fn runs(place: &Place, block: &str) {
    let mut running: Vec<Background> = Vec::new();
    let mut agent_is_new = false;
    for Shown { command, output } in commands(block) {
        if let Some(line) = command.strip_suffix(" &") {
            let mut background = place.background(line);
            if !output.is_empty() {
                background.prints(&output);
            }
            agent_is_new = line.starts_with("consul agent");
            running.push(background);
            continue;
        }
        let patient =
            std::mem::take(&mut agent_is_new) || command.starts_with("consul kv get ringkv/results/");
        let once = || run(&mut place.command(&command));
        let ran =
            if patient { until(&command, || Some(once()).filter(|r| r.code == Some(0))) } else { once() };
        holds(&command, &output, ran);
    }
    running.into_iter().rev().for_each(Background::end);
}

fn holds(command: &str, output: &[String], ran: Ran) {
    assert_eq!(ran.code, Some(0), "{command}: {}{}", ran.stdout, ran.stderr);
    if !output.is_empty() {
        assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), output, "{command}");
    }
    if command.contains("ringkv/results/") {
        assert!(ran.stdout.contains(r#""outcome":"done""#), "{command}: {}", ran.stdout);
    }
}

#[test]
fn the_steps_of_the_readme_work_as_shown() {
    let Some(place) = Place::new("the_steps_of_the_readme_work_as_shown") else { return };
    let readme = readme();
    let console = blocks(&readme, "console");
    assert_eq!(console.len(), 2, "one with the embedded agent, one with Consul");
    // The build is this test's own, and so is the path; what is shown must be what makes them.
    let build = "$ cargo build --release\n$ export PATH=$PWD/target/release:$PATH\n";
    runs(&place, console[0].strip_prefix(build).expect("the first block begins with the build"));
    fs::remove_dir_all(place.folder.path().join("ringkv-data")).unwrap();
    runs(&place, &console[1]);
}

#[test]
fn the_scripts_of_the_readme_are_there() {
    let readme = readme();
    let mut seen = 0;
    for line in blocks(&readme, "sh").iter().flat_map(|block| block.lines()) {
        let name = line.split_whitespace().next().unwrap();
        let mode = fs::metadata(script(name)).unwrap_or_else(|e| panic!("{name}: {e}")).permissions().mode();
        assert!(mode & 0o111 != 0, "{name} is not executable");
        seen += 1;
    }
    assert!(seen >= 2);
}

#[test]
fn the_python_snippets_work_as_shown() {
    let test = "the_python_snippets_work_as_shown";
    let (Some(place), Some(python)) = (Place::new(test), Python::of(test)) else { return };
    let mut cluster = place.background("server_consumer --dev 4");
    cluster.prints(&["ready: 4 of 4 nodes".to_owned()]);
    let runs = |name: &str, text: &str| {
        fs::write(place.folder.path().join(name), text).unwrap();
        run(&mut place.command(&format!("{} {name}", python.path().display()))).ok()
    };

    let readme = readme();
    let snippets = blocks(&readme, "python");
    assert_eq!(snippets.len(), 1);
    let shown: Vec<&str> = snippets[0].lines().filter_map(|line| Some(line.split_once("# ")?.1)).collect();
    assert!(!shown.is_empty());
    assert_eq!(runs("readme.py", &snippets[0]).lines().collect::<Vec<_>>(), shown);

    let ring = fs::read_to_string(script("docs/ring.md")).unwrap();
    let snippets = blocks(&ring, "python");
    assert_eq!(snippets.len(), 1);
    let text = "import urllib.request\n\
        text = urllib.request.urlopen('http://127.0.0.1:8500/v1/kv/ringkv/ring?raw').read()\n";
    let asks = "for n in range(20):\n    print(owner(f'key-{n}'))\n";
    let owners = runs("ring.py", &format!("{text}{}{asks}", snippets[0]));
    assert_eq!(owners.lines().count(), 20);
    for (n, owner) in owners.lines().enumerate() {
        let said = run(&mut place.command(&format!("client_producer explain key-{n} --json"))).ok();
        let explained: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(explained["owners"][0], owner, "key-{n}");
    }
    cluster.end();
}
