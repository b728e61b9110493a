//! HTTP for people and monitors: health, state, metrics. It asks the node and shows what it says.

use std::fmt::Write as _;
use std::net::TcpListener;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ringkv_server::core::Status;
use ringkv_server::shell::Handle;
use serde_json::json;
use tracing::Span;

use crate::server::logs;

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
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, routes).await
        });
        if let Err(error) = served {
            tracing::error!("HTTP has ended: {error}");
        }
    })
    .context("HTTP")
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
    ];
    let refused = [
        ("foreign_frame", status.refused.foreign_frames),
        ("handshake", status.refused.handshakes),
        ("malformed_frame", status.refused.malformed_frames),
        ("reply", status.refused.replies),
        ("ring", status.refused.rings),
        ("unsent", status.refused.unsent),
    ];
    let counters = [
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
