//! Other programs, run to their end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::World;

/// How a program ended.
pub struct Ran {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// That it ended with 0; returns its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "it said:\n{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `client_producer` with these arguments, in a world.
pub fn producer(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client_producer"));
    command.args(args).args(["--consul", &world.consul.url]).current_dir(world.folder.path());
    for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_SSL"] {
        command.env_remove(name);
    }
    command
}

/// Where the programs under test are.
pub fn programs_folder() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_client_producer")).parent().expect("a file is in a folder").to_owned()
}

/// `$PATH` with the programs under test first.
pub fn programs_on_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [programs_folder()].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("they were in a PATH before")
}

/// The real Consul, where there is one.
pub fn consul_binary() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let given = std::env::var_os("CONSUL_BIN").map(PathBuf::from);
    given.or_else(|| {
        std::env::split_paths(&path).map(|folder| folder.join("consul")).find(|file| file.is_file())
    })
}

/// A program that will run in a network namespace of its own, where all ports are free and only loopback is;
/// `None` where the system permits none.
pub fn in_a_network_of_its_own(program: &Path) -> Option<Command> {
    [&["-n"][..], &["-rn"]].into_iter().find_map(|how| {
        let tried = Command::new("unshare").args(how).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| {
            let mut command = Command::new("unshare");
            command.args(how).arg(program);
            command
        })
    })
}
