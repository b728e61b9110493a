//! Services and their TTL checks.
//!
//! Consul has two views of them: the agent's own, always current, and the catalog's, which the agent brings up to date.
//! Here they are one, but for a check's note under an unchanged status: as in Consul, the catalog shows that later,
//! so that heartbeats wake nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Refusal, Row};
use crate::CheckStatus;

const SERVICES_MAX: usize = 10_000;
const CHECKS_MAX: usize = 20_000;
/// Longer notes are cut, as in Consul.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Consul's `check_update_interval`: how late a note may be under an unchanged status.
const NOTE_DELAY: Duration = Duration::from_secs(300);
/// Consul takes no less for `deregister_critical_service_after`.
const DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);

/// A service to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewService {
    pub id: String,
    pub name: String,
    pub tags: Vec<String>,
    pub address: String,
    pub port: u16,
    pub meta: BTreeMap<String, String>,
    pub checks: Vec<NewCheck>,
    /// Whether the service's other checks go.
    pub replace_checks: bool,
}

/// A check to be registered with its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheck {
    pub id: String,
    pub name: String,
    pub notes: String,
    pub status: CheckStatus,
    pub ttl: Duration,
    pub deregister_after: Option<Duration>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    pub id: String,
    pub name: String,
    pub tags: Vec<String>,
    pub address: String,
    pub port: u16,
    pub meta: BTreeMap<String, String>,
    pub create_index: u64,
    pub modify_index: u64,
}

/// A check as the catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRow {
    pub id: String,
    pub name: String,
    pub notes: String,
    pub status: CheckStatus,
    pub output: String,
    pub service_id: String,
    pub service_name: String,
    pub service_tags: Vec<String>,
    pub ttl_ms: u64,
    pub deregister_after_ms: Option<u64>,
    pub create_index: u64,
    pub modify_index: u64,
}

#[derive(Debug)]
struct Live {
    row: CheckRow,
    /// The last note, which the row may not show yet.
    note: String,
    note_due: Option<Instant>,
    /// When the check turns critical without an update.
    ends: Option<Instant>,
    /// Since when an update or the TTL's end has had it critical. As in Consul, a check that was critical when it was
    /// registered counts as such only from the first of them.
    critical_since: Option<Instant>,
}

impl Live {
    fn count_critical(&mut self, now: Instant, status: CheckStatus) {
        if status == CheckStatus::Critical {
            self.critical_since.get_or_insert(now);
        } else {
            self.critical_since = None;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Catalog {
    services: BTreeMap<String, ServiceRow>,
    checks: BTreeMap<String, Live>,
    /// Of each service name, the last change of an instance or its checks.
    names: BTreeMap<String, u64>,
    services_index: u64,
    checks_index: u64,
    /// When a name last lost its last instance.
    extinct_index: u64,
}

impl Catalog {
    /// Of all services, all checks, and the last name that vanished.
    pub fn indexes(&self) -> (u64, u64, u64) {
        (self.services_index, self.checks_index, self.extinct_index)
    }

    /// The index of each service's name.
    pub fn names(&self) -> &BTreeMap<String, u64> {
        &self.names
    }

    /// The index for queries about one service.
    pub fn name_index(&self, name: &str) -> u64 {
        self.names.get(name).copied().unwrap_or(self.extinct_index)
    }

    /// All services, by id.
    pub fn services(&self) -> impl Iterator<Item = &ServiceRow> {
        self.services.values()
    }

    /// All checks as the catalog shows them, by id.
    pub fn checks(&self) -> impl Iterator<Item = &CheckRow> {
        self.checks.values().map(|live| &live.row)
    }

    /// All checks as the agent shows them: with the last note.
    pub fn agent_checks(&self) -> impl Iterator<Item = CheckRow> {
        self.checks.values().map(|live| CheckRow { output: live.note.clone(), ..live.row.clone() })
    }

    pub(super) fn register(
        &mut self,
        now: Instant,
        index: u64,
        new: NewService,
        rows: &mut Vec<Row>,
    ) -> Result<(), Refusal> {
        let added = new.checks.iter().filter(|check| !self.checks.contains_key(&check.id)).count();
        let full = self.services.len() >= SERVICES_MAX && !self.services.contains_key(&new.id);
        if full || self.checks.len() + added > CHECKS_MAX {
            let message =
                format!("the embedded agent holds at most {SERVICES_MAX} services and {CHECKS_MAX} checks");
            return Err(Refusal::new(500, message));
        }
        let old = self.services.get(&new.id);
        let service = ServiceRow {
            id: new.id,
            name: new.name,
            tags: new.tags,
            address: new.address,
            port: new.port,
            meta: new.meta,
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: old.map_or(index, |old| old.modify_index),
        };
        if old != Some(&service) {
            let service = ServiceRow { modify_index: index, ..service.clone() };
            rows.push(Row::Service(service.clone()));
            self.apply_service(service);
        }
        let kept: BTreeSet<&str> = new.checks.iter().map(|check| check.id.as_str()).collect();
        let dropped: Vec<String> = match new.replace_checks {
            true => self.checks_of(&service.id).filter(|id| !kept.contains(id.as_str())).collect(),
            false => Vec::new(),
        };
        for id in dropped {
            rows.push(Row::NoCheck { id: id.clone(), index });
            self.apply_no_check(&id, index);
        }
        for check in new.checks {
            self.add_check(now, index, &service, check, rows);
        }
        Ok(())
    }

    /// A check that is there already keeps its status and note; its TTL starts anew.
    fn add_check(
        &mut self,
        now: Instant,
        index: u64,
        service: &ServiceRow,
        new: NewCheck,
        rows: &mut Vec<Row>,
    ) {
        let old = self.checks.get(&new.id);
        let check = CheckRow {
            status: old.map_or(new.status, |old| old.row.status),
            output: old.map_or(String::new(), |old| old.row.output.clone()),
            create_index: old.map_or(index, |old| old.row.create_index),
            modify_index: old.map_or(index, |old| old.row.modify_index),
            id: new.id,
            name: new.name,
            notes: new.notes,
            service_id: service.id.clone(),
            service_name: service.name.clone(),
            service_tags: service.tags.clone(),
            ttl_ms: millis(new.ttl),
            deregister_after_ms: new.deregister_after.map(millis),
        };
        match self.checks.get_mut(&check.id) {
            Some(live) if live.row == check => {
                live.ends = Some(now + new.ttl);
                live.critical_since = None;
            }
            _ => {
                let check = CheckRow { modify_index: index, ..check };
                rows.push(Row::Check(check.clone()));
                self.apply_check(check, now);
            }
        }
    }

    pub(super) fn deregister(&mut self, index: u64, id: &str, rows: &mut Vec<Row>) {
        if !self.services.contains_key(id) {
            return;
        }
        let checks: Vec<String> = self.checks_of(id).collect();
        for id in checks {
            rows.push(Row::NoCheck { id: id.clone(), index });
            self.apply_no_check(&id, index);
        }
        rows.push(Row::NoService { id: id.to_owned(), index });
        self.apply_no_service(id, index);
    }

    pub(super) fn update(
        &mut self,
        now: Instant,
        index: u64,
        id: &str,
        status: CheckStatus,
        note: &str,
        rows: &mut Vec<Row>,
    ) -> bool {
        let Some(live) = self.checks.get_mut(id) else { return false };
        live.ends = Some(now + Duration::from_millis(live.row.ttl_ms));
        live.note = cut(note);
        live.count_critical(now, status);
        if live.row.status != status {
            let check = CheckRow { status, ..live.row.clone() };
            self.show(index, check, rows);
        } else if live.row.output == live.note {
            live.note_due = None;
        } else {
            live.note_due.get_or_insert(now + NOTE_DELAY);
        }
        true
    }

    /// Brings a check's status and last note into the catalog.
    fn show(&mut self, index: u64, check: CheckRow, rows: &mut Vec<Row>) {
        let Some(live) = self.checks.get_mut(&check.id) else { return };
        let check = CheckRow { output: live.note.clone(), modify_index: index, ..check };
        live.note_due = None;
        live.row = check.clone();
        self.raise_check(&check);
        rows.push(Row::Check(check));
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let times = |live: &Live| [live.ends, live.note_due, removal(live)];
        self.checks.values().flat_map(times).flatten().min()
    }

    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        let due = |time: &Option<Instant>| time.is_some_and(|time| time <= now);
        let live = self.checks.values();
        live.filter(|live| [live.ends, live.note_due, removal(live)].iter().any(due))
            .map(|live| live.row.id.clone())
            .collect()
    }

    /// Does what is due for one check.
    pub(super) fn expire(&mut self, now: Instant, index: u64, id: &str, rows: &mut Vec<Row>) {
        // An earlier one may have taken the service, and this check with it.
        let Some(live) = self.checks.get_mut(id) else { return };
        if removal(live).is_some_and(|time| time <= now) {
            let service = live.row.service_id.clone();
            return self.deregister(index, &service, rows);
        }
        if live.ends.is_some_and(|ends| ends <= now) {
            live.ends = None;
            live.count_critical(now, CheckStatus::Critical);
            live.note = match live.note.as_str() {
                "" => "TTL expired".to_owned(),
                last => format!("TTL expired (last output before timeout follows): {last}"),
            };
            if live.row.status != CheckStatus::Critical {
                let check = CheckRow { status: CheckStatus::Critical, ..live.row.clone() };
                return self.show(index, check, rows);
            }
            live.note_due.get_or_insert(now + NOTE_DELAY);
        }
        if live.note_due.is_some_and(|due| due <= now) {
            let check = live.row.clone();
            if check.output == live.note {
                live.note_due = None;
            } else {
                self.show(index, check, rows);
            }
        }
    }

    fn checks_of(&self, service: &str) -> impl Iterator<Item = String> {
        let of = move |live: &&Live| live.row.service_id == service;
        self.checks.values().filter(of).map(|live| live.row.id.clone())
    }

    pub(super) fn apply_service(&mut self, service: ServiceRow) -> u64 {
        let index = service.modify_index;
        self.services_index = self.services_index.max(index);
        self.names.insert(service.name.clone(), index);
        let name = service.name.clone();
        if let Some(old) = self.services.insert(service.id.clone(), service)
            && old.name != name
        {
            self.forget_name(&old.name, index);
        }
        index
    }

    pub(super) fn apply_no_service(&mut self, id: &str, index: u64) -> u64 {
        if let Some(old) = self.services.remove(id) {
            self.services_index = self.services_index.max(index);
            self.forget_name(&old.name, index);
        }
        index
    }

    /// One instance of this name is gone.
    fn forget_name(&mut self, name: &str, index: u64) {
        if self.services.values().any(|service| service.name == name) {
            self.names.insert(name.to_owned(), index);
        } else {
            self.names.remove(name);
            self.extinct_index = self.extinct_index.max(index);
        }
    }

    pub(super) fn apply_check(&mut self, row: CheckRow, now: Instant) -> u64 {
        let index = row.modify_index;
        self.raise_check(&row);
        let old = self.checks.remove(&row.id);
        let live = Live {
            note: old.as_ref().map_or_else(|| row.output.clone(), |old| old.note.clone()),
            note_due: old.as_ref().and_then(|old| old.note_due),
            ends: Some(now + Duration::from_millis(row.ttl_ms)),
            critical_since: None,
            row,
        };
        self.checks.insert(live.row.id.clone(), live);
        index
    }

    pub(super) fn apply_no_check(&mut self, id: &str, index: u64) -> u64 {
        if let Some(mut old) = self.checks.remove(id) {
            old.row.modify_index = index;
            self.raise_check(&old.row);
        }
        index
    }

    fn raise_check(&mut self, check: &CheckRow) {
        self.checks_index = self.checks_index.max(check.modify_index);
        if let Some(index) = self.names.get_mut(&check.service_name) {
            *index = check.modify_index.max(*index);
        }
    }

    pub(super) fn raise(&mut self, services: u64, checks: u64, extinct: u64, names: BTreeMap<String, u64>) {
        for (name, index) in names {
            self.names.entry(name).and_modify(|old| *old = index.max(*old));
        }
        self.services_index = self.services_index.max(services);
        self.checks_index = self.checks_index.max(checks);
        self.extinct_index = self.extinct_index.max(extinct);
    }

    pub(super) fn rows(&self, rows: &mut Vec<Row>) {
        rows.extend(self.services.values().cloned().map(Row::Service));
        rows.extend(self.checks().cloned().map(Row::Check));
    }
}

/// When a service goes because this check has been critical for too long.
fn removal(live: &Live) -> Option<Instant> {
    let after = Duration::from_millis(live.row.deregister_after_ms?);
    Some(live.critical_since? + after.max(DEREGISTER_AFTER_MIN))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn cut(note: &str) -> String {
    if note.len() <= OUTPUT_BYTES_MAX {
        return note.to_owned();
    }
    let end = (0..=OUTPUT_BYTES_MAX).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
    format!("{} ... (captured {OUTPUT_BYTES_MAX} of {} bytes)", &note[..end], note.len())
}
