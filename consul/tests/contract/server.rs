//! The two kinds of servers, and what the cases need to talk to them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use consul::agent::{Agent, Handle};
use consul::{Client, Config};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server for one case. What the case writes, it writes under [`Server::name`], because others use the real one too.
pub struct Server {
    pub client: Client,
    case: String,
    _embedded: Option<Handle>,
}

impl Server {
    pub fn embedded(case: &str) -> Self {
        let agent = Agent::bind("127.0.0.1:0", None).expect("a free port");
        let handle = agent.spawn_thread().expect("a thread");
        Server { client: client(&handle.url()), case: case.to_owned(), _embedded: Some(handle) }
    }

    /// The real one, or `None` after saying so.
    pub fn real(case: &str) -> Option<Self> {
        static REAL: OnceLock<Option<Real>> = OnceLock::new();
        let Some(real) = REAL.get_or_init(Real::start) else {
            let binary = "no consul on the PATH or in $CONSUL_BIN";
            assert!(!required(), "{case}: {binary}, and RINGKV_REQUIRE_CONSUL asks for one");
            // Not by `eprintln!`, which the test harness keeps to itself where a test passes.
            let _ = writeln!(std::io::stderr(), "skipped against a real Consul: {case} ({binary})");
            return None;
        };
        Some(Server { client: client(&real.url), case: case.to_owned(), _embedded: None })
    }

    /// A name that no other case uses: for keys, services and checks.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.case)
    }

    /// A request as it is; the status, the index, the body.
    pub fn raw(&self, method: &str, path: &str, body: &[u8]) -> (u16, Option<u64>, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .into();
        let request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.client.url()));
        let response = match body {
            [] => agent.run(
                agent.configure_request(request.body(()).unwrap()).allow_non_standard_methods(true).build(),
            ),
            body => agent.run(
                agent.configure_request(request.body(body).unwrap()).allow_non_standard_methods(true).build(),
            ),
        };
        let mut response = response.expect("an answer");
        let index =
            response.headers().get("x-consul-index").map(|value| value.to_str().unwrap().parse().unwrap());
        let body = response.body_mut().read_to_string().expect("a text");
        (response.status().as_u16(), index, body)
    }
}

pub fn client(url: &str) -> Client {
    Client::new(Config::parse(url).expect("an address")).expect("a client")
}

/// Waits for what must become true.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "within {PATIENCE:?} there was no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn required() -> bool {
    std::env::var("RINGKV_REQUIRE_CONSUL").is_ok_and(|value| value == "1")
}

/// The real binary, where there is one.
pub fn binary() -> Option<PathBuf> {
    if let Ok(path) = std::env::var("CONSUL_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "CONSUL_BIN names {}, which is no file", path.display());
        return Some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("consul")).find(|file| file.is_file())
}

/// A real agent. It ends with this process, however that ends.
pub struct Real {
    pub url: String,
    /// Its standard input is what keeps the agent alive.
    _guard: Child,
}

impl Real {
    fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With more configuration, in Consul's own language.
    pub fn start_with(hcl: &str) -> Option<Self> {
        let binary = binary()?;
        // Ports are free when they are looked for and may be taken when Consul wants them: try again then.
        let mut last = String::new();
        for _ in 0..5 {
            match Self::attempt(&binary, hcl) {
                Ok(real) => return Some(real),
                Err(why) => last = why,
            }
        }
        panic!("{} does not start: {last}", binary.display());
    }

    fn attempt(binary: &std::path::Path, hcl: &str) -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("consul-contract-{}-{number}.log", std::process::id()));
        let [http, lan, wan, server] = free_ports();
        let url = format!("http://127.0.0.1:{http}");
        // The shell ends with the agent, and ends the agent when our end of its input closes, which also a SIGKILL to
        // us does.
        let script = r#"
            log=$1; shift; exec 3<&0
            "$@" >"$log" 2>&1 </dev/null 3<&- & agent=$!
            { read _ <&3; rm -f "$log"; kill -9 $agent; } & watcher=$!
            wait $agent; kill $watcher
        "#;
        let mut guard = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&log)
            .arg(binary)
            .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-dns-port=-1", "-grpc-port=-1"])
            .args([format!("-http-port={http}"), format!("-server-port={server}")])
            .args([format!("-serf-lan-port={lan}"), format!("-serf-wan-port={wan}")])
            .args(["-hcl", "disable_update_check = true", "-hcl", hcl])
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let end = Instant::now() + Duration::from_secs(15);
        let client = client(&url);
        while Instant::now() < end && guard.try_wait().is_ok_and(|status| status.is_none()) {
            // Its own service is listed once its node is; with access control we are not shown it.
            let listed =
                || !hcl.is_empty() || client.instances("consul", true).is_ok_and(|found| found.len() == 1);
            if client.leader().is_ok_and(|leader| leader.is_some()) && listed() {
                return Ok(Real { url, _guard: guard });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        drop(guard.stdin.take());
        let _ = guard.wait();
        Err(text.lines().rev().take(5).collect::<Vec<_>>().join("\n"))
    }
}

fn free_ports() -> [u16; 4] {
    // All at once, so that they differ.
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

/// A case by its name.
pub type Case = (&'static str, fn(&Server));

/// Cases that mostly wait: all at the same time.
pub fn together(cases: &[Case], server: impl Fn(&str) -> Option<Server> + Sync) {
    std::thread::scope(|scope| {
        for (name, case) in cases {
            let server = &server;
            scope.spawn(move || {
                if let Some(server) = server(name) {
                    case(&server);
                }
            });
        }
    });
}

/// Makes of each case a test against the embedded agent and one against the real one.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {$(
        mod $case {
            #[test]
            fn embedded() {
                super::$case(&$crate::server::Server::embedded(stringify!($case)));
            }

            #[test]
            fn real() {
                if let Some(server) = $crate::server::Server::real(stringify!($case)) {
                    super::$case(&server);
                }
            }
        }
    )*};
}
pub(crate) use cases;
