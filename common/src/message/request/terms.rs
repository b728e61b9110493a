//! The terms on which an operation is asked.

use super::fields::Fields;
use super::{bad, shorten};
use crate::message::{Failure, Level, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX, Terms, Wants};

pub(super) fn terms(f: &Fields) -> Result<Terms, Failure> {
    let level = f.level.as_ref().map(|text| level(&text.0)).transpose()?;
    if level.is_some() && (f.r.is_some() || f.w.is_some()) {
        return Err(bad("give either level or r and w"));
    }
    let count = |name: &str, n: Option<u32>| match n {
        Some(0) => Err(bad(format!("{name} is 0: at least 1 replica must answer"))),
        n => Ok(n.map(Level::Count)),
    };
    let timeout_ms = f.timeout_ms.unwrap_or(u64::from(TIMEOUT_MS_DEFAULT));
    let in_range = u32::try_from(timeout_ms).ok().filter(|t| (1..=TIMEOUT_MS_MAX).contains(t));
    let timeout_ms = in_range
        .ok_or_else(|| bad(format!("timeout_ms is {timeout_ms}: it may be 1 to {TIMEOUT_MS_MAX}")))?;
    Ok(Terms {
        read: level.map_or_else(|| count("r", f.r), |l| Ok(Some(l)))?,
        write: level.map_or_else(|| count("w", f.w), |l| Ok(Some(l)))?,
        sloppy: f.quorum.as_ref().map(|text| sloppy(&text.0)).transpose()?,
        timeout_ms,
        want: wants(f)?,
        epoch: f.epoch,
    })
}

fn level(text: &str) -> Result<Level, Failure> {
    match text.to_ascii_uppercase().as_str() {
        "ONE" => Ok(Level::One),
        "QUORUM" => Ok(Level::Quorum),
        "ALL" => Ok(Level::All),
        _ => Err(bad(format!("level is \"{}\": it may be ONE, QUORUM or ALL", shorten(text)))),
    }
}

fn sloppy(text: &str) -> Result<bool, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "sloppy" => Ok(true),
        "strict" => Ok(false),
        _ => Err(bad(format!("quorum is \"{}\": it may be sloppy or strict", shorten(text)))),
    }
}

fn wants(f: &Fields) -> Result<Wants, Failure> {
    let mut wants = Wants::default();
    let may: &[&str] = match &*f.op.0 {
        "STATUS" => &["ring", "report"],
        "GET_ONE" => &["context", "receipt", "raw"],
        "MGET" | "MPUT" => &["context"],
        _ => &["context", "receipt"],
    };
    for want in f.want.iter().flatten() {
        match &*want.0 {
            other if !may.contains(&other) => {
                let (other, may) = (shorten(other), may.join(", "));
                return Err(bad(format!("want has \"{other}\": of {} it may have {may}", f.op.0)));
            }
            "context" => wants.context = true,
            "receipt" => wants.receipt = true,
            "raw" => wants.raw = true,
            // STATUS looks for its own itself.
            _ => {}
        }
    }
    Ok(wants)
}

pub(super) fn wanted(f: &Fields, what: &str) -> bool {
    f.want.iter().flatten().any(|w| w.0 == what)
}
