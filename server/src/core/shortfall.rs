//! Why a quorum was missed, in words: how many were needed, and what each of the rest said.

use std::fmt::Write;

use ringkv_common::name::NodeName;
use ringkv_common::quorum::Quorum;

/// What nodes said instead of what was asked for.
pub type Reasons = Vec<(NodeName, String)>;

/// What became of a quorum: `reasons`, and the silence of others after so long.
pub fn shortfall(
    quorum: &Quorum,
    reasons: &Reasons,
    silent: impl Iterator<Item = NodeName>,
    after_ms: Option<u32>,
) -> String {
    let (needed, got) = quorum.shortfall();
    let mut text = format!("needed {needed} replicas, got {got}");
    let spoke = |name: &NodeName| reasons.iter().any(|(by, _)| by == name);
    let silent = silent.filter(|name| !spoke(name));
    let silent = silent.filter_map(|name| Some((name, format!("timed out after {} ms", after_ms?))));
    for (at, (name, why)) in reasons.iter().cloned().chain(silent).enumerate() {
        let separator = if at == 0 { ": " } else { ", " };
        write!(text, "{separator}{name} {why}").expect("a String takes all that is written");
    }
    text
}
