//! Rules of what two states mean to each other beyond their join: what hides what, and which news is late.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::version::{Siblings, Version};
use smallvec::SmallVec;

use super::author::Author;
use super::requests::Requests;

/// Whether what is told without a context is hidden by what is held and its writer had not seen.
pub(super) fn hides(state: &Siblings, told: &Siblings) -> bool {
    let newest = |siblings: &Siblings| {
        let plain = siblings.versions.iter().filter(|version| !version.contextual);
        plain.map(|version| (version.stamp, version.dot, version.request)).max()
    };
    let (Some(held), Some(news)) = (newest(state), newest(told)) else { return false };
    let twin = held.2 != 0 && held.2 == news.2;
    held > news && !told.clock.covers(held.1) && !twin
}

/// Whether beside a version that was told without a context another such one is held that its writer had not seen. One of
/// the same request is no other: it is the same write.
pub(super) fn unseen(state: &Siblings, told: &Siblings) -> bool {
    if state.versions.len() < 2 {
        return false;
    }
    let news = told.versions.iter().filter(|version| !version.contextual);
    let Some(news) = news.max_by_key(|version| (version.stamp, version.dot)) else { return false };
    let mut held = state.versions.iter().filter(|version| !version.contextual);
    let twin = |version: &Version| version.request != 0 && version.request == news.request;
    held.clone().any(|version| version.dot == news.dot)
        && held.any(|version| !told.clock.covers(version.dot) && !twin(version))
}

/// Whether what is told has a version that is gone here, though whoever tells it has seen all that is known here and nothing
/// superseded it there: then it was a late twin, and was taken out here.
pub(super) fn taken_out(state: &Siblings, told: &Siblings) -> bool {
    let gone = |version: &Version| {
        state.clock.covers(version.dot) && !state.versions.iter().any(|held| held.dot == version.dot)
    };
    told.versions.iter().any(gone) && state.clock.entries().iter().all(|dot| told.clock.covers(*dot))
}

/// Takes out of news what is no news though its dots are, and returns it. That the state has seen them follows from
/// joining the news, whose clock has them: seen before, they would pass for having superseded what else the news brings of
/// the same actor.
///
/// A write that its client repeated elsewhere may have been done by two coordinators. Where this node knows its
/// request and holds its version no more, that was superseded, and so is its twin. And where an accepted loss left
/// nothing but what this life (`since_loss`) wrote to a key, what comes back is older, whatever its stamp says.
pub(super) fn take_late(
    key: &Key,
    state: &Siblings,
    news: &mut Siblings,
    requests: &Requests,
    since_loss: Option<u128>,
) -> Vec<Version> {
    let mut late = Vec::new();
    if state.is_empty() || bug::on(Bug::TakesLateTwins) {
        return late;
    }
    let written_since = since_loss.is_some_and(|id| state.clock.entries().iter().any(|d| d.actor.id == id));
    news.versions.retain(|version| {
        let twin = requests.knows(key, version.request) && state.of_request(version.request).is_none();
        let is_late = !state.clock.covers(version.dot) && (twin || written_since && !version.contextual);
        if is_late {
            late.push(version.clone());
        }
        !is_late
    });
    late
}

/// Joins news into what is held, that what was late is taken out of. Whether anything changed.
///
/// A late twin without a context was written over all that its writer had, and the news' clock says that this is
/// superseded. But it came after the write that the twin is of: where it is held it is given a new name, which nobody has
/// taken out. Without that a write that was acknowledged would go with the twin, everywhere.
pub(super) fn join_without(
    late: &[Version],
    state: &mut Siblings,
    news: &Siblings,
    author: &mut Author,
) -> bool {
    let newest = late.iter().filter(|version| !version.contextual).map(|version| version.stamp).max();
    let taken = |held: &&Version| {
        newest.is_some_and(|newest| held.stamp < newest)
            && news.clock.covers(held.dot)
            && !news.versions.iter().any(|version| version.dot == held.dot)
    };
    let taken: SmallVec<[Version; 1]> = state.versions.iter().filter(taken).cloned().collect();
    let changed = state.join(news);
    for version in taken {
        author.outgrow(&state.clock);
        state.insert(Version { dot: author.dot(), ..version });
    }
    changed || !late.is_empty()
}
