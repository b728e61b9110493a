//! HTTP for people and monitors: health, state, metrics. It asks the node and shows what it says.
//!
//! Its connections take descriptors that clients need, so they are few, and none lasts: whoever sends half a request,
//! or reads no reply, is cut off.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ringkv_server::core::Status;
use ringkv_server::shell::Handle;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::Span;

use crate::server::logs;

/// How many are served at one time, and for how long.
#[derive(Clone, Copy)]
struct Bounds {
    /// Connections; further ones wait to be accepted.
    connections: usize,
    /// How long the head of a request may take to come, and the next request after it.
    head: Duration,
    /// How long a connection lasts, whatever it does.
    life: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 128, head: Duration::from_secs(10), life: Duration::from_secs(60) };
/// The pause where no connection can be accepted: mostly all descriptors are used up.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Serves on a thread of its own.
pub fn serve(listener: TcpListener, handle: Handle, span: &Span) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/state", get(state))
        .route("/metrics", get(metrics))
        .with_state(handle);
    super::spawn("http", span, move || {
        if let Err(error) = runtime.block_on(accept(listener, routes, BOUNDS)) {
            tracing::error!("HTTP has ended: {error}");
        }
    })
    .context("HTTP")
}

/// Accepts for ever.
async fn accept(listener: TcpListener, routes: Router, bounds: Bounds) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    // However it ends, it is over.
                    let _ = timeout(bounds.life, connection(stream, routes, bounds.head)).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn connection(stream: TcpStream, routes: Router, head: Duration) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await
}

/// The node's status, or the answer that says that there is none.
async fn status(handle: Handle) -> Result<Status, Response> {
    let asked = tokio::task::spawn_blocking(move || handle.status()).await.ok().flatten();
    asked.ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, "the node does not answer\n").into_response())
}

async fn healthz(State(handle): State<Handle>) -> Result<&'static str, Response> {
    status(handle).await.map(|_| "ok\n")
}

/// Ready: it has a ring that lists it. What it lost with its memory is named beside, because reads of that are no proof.
async fn readyz(State(handle): State<Handle>) -> Result<Response, Response> {
    let status = status(handle).await?;
    let ready = status.epoch > 0 && status.incarnation > 0;
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let lost = status.report.lost_partitions;
    let body = json!({ "ready": ready, "node": status.node, "epoch": status.epoch, "lost_partitions": lost });
    Ok((code, Json(body)).into_response())
}

async fn state(State(handle): State<Handle>) -> Result<Json<Status>, Response> {
    status(handle).await.map(Json)
}

async fn metrics(State(handle): State<Handle>) -> Result<Response, Response> {
    let text = exposition(&status(handle).await?);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Prometheus' text format.
fn exposition(status: &Status) -> String {
    let report = &status.report;
    let gauges = [
        ("epoch", "The ring's epoch.", status.epoch),
        ("incarnation", "The epoch in which the node joined; 0 outside the ring.", status.incarnation),
        ("keys", "Records that this node leads.", status.keys),
        ("stored_records", "Records that it stores, deleted ones too.", status.stored),
        ("stored_bytes", "Their bytes.", status.bytes),
        ("lost_partitions", "Partitions whose data was lost with a memory.", status.lost_partitions as u64),
        ("tasks", "Requests under way.", status.tasks as u64),
        ("waiting_bytes", "Bytes of keys and values that wait.", status.waiting_bytes as u64),
        ("in_line", "Requests of clients that wait because enough is under way.", status.in_line as u64),
        (
            "unread_bytes",
            "Bytes of large replies that clients have not read yet.",
            status.unread_bytes as u64,
        ),
        ("change_incoming_partitions", "Partitions to receive in the change.", u64::from(report.incoming)),
        ("change_copied_partitions", "Of these, received.", u64::from(report.copied)),
        ("change_verified_partitions", "Of these, compared and repaired.", u64::from(report.verified)),
        ("change_records", "Records received in the change.", report.keys_moved),
        ("change_bytes", "Their bytes.", report.bytes_moved),
        (
            "clock_skew_ms",
            "Distance of the clock from the median of the peers'.",
            status.clock_ahead_ms.unsigned_abs(),
        ),
        ("hint_bytes", "Bytes of hints kept for nodes that are away.", status.upkeep.hint_bytes),
    ];
    let refused = [
        ("foreign_frame", status.refused.foreign_frames),
        ("handshake", status.refused.handshakes),
        ("malformed_frame", status.refused.malformed_frames),
        ("reply", status.refused.replies),
        ("ring", status.refused.rings),
        ("stamp", status.refused.stamps),
        ("unsent", status.refused.unsent),
    ];
    let counters = [
        ("comparisons_total", "Comparisons with another owner.", status.upkeep.compared),
        ("repaired_records_total", "Records taken from others after a comparison.", status.upkeep.repaired),
        ("collected_tombstones_total", "Tombstones collected.", status.upkeep.collected),
        ("connections_ended_total", "Connections that ended, for whatever reason.", status.connections_ended),
        ("log_lines_dropped_total", "Log lines that nobody read.", logs::dropped()),
    ];
    let mut text = String::new();
    // Writing to a string cannot fail.
    let all = gauges.map(|g| ("gauge", g)).into_iter().chain(counters.map(|c| ("counter", c)));
    for (kind, (name, help, value)) in all {
        let _ =
            writeln!(text, "# HELP ringkv_{name} {help}\n# TYPE ringkv_{name} {kind}\nringkv_{name} {value}");
    }
    text.push_str(
        "# HELP ringkv_refused_total What was not taken or not sent.\n# TYPE ringkv_refused_total counter\n",
    );
    for (what, value) in refused {
        let _ = writeln!(text, "ringkv_refused_total{{what=\"{what}\"}} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server of one page.
    fn server(bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a flag");
        let routes = Router::new().route("/", get(async || "here\n"));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(accept(listener, routes, bounds))
        });
        at
    }

    fn send(at: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    /// All that comes until the server ends the connection, which it must.
    fn until_cut_off(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        match stream.read_to_end(&mut text) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                panic!("it is not cut off")
            }
            _ => String::from_utf8_lossy(&text).into_owned(),
        }
    }

    #[test]
    fn half_a_request_is_cut_off_and_others_are_served_after_it() {
        let head = Duration::from_millis(100);
        let at = server(Bounds { connections: 3, head, life: PATIENCE * 2 });
        let half: Vec<TcpStream> = (0..20).map(|_| send(at, "GET / HTTP/1.1\r\nHost: h")).collect();
        let whole = send(at, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert!(until_cut_off(whole).ends_with("here\n"));
        for stream in half {
            until_cut_off(stream);
        }
        let rests = send(at, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(until_cut_off(rests).ends_with("here\n"), "answered, and not kept for ever");
    }

    #[test]
    fn no_connection_lasts_for_ever() {
        let life = Duration::from_millis(100);
        let at = server(Bounds { connections: 1, head: PATIENCE * 2, life });
        until_cut_off(send(at, "GET /"));
    }
}
