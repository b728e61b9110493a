//! The last ring, kept on disk beside each node: what a node goes by that is started while Consul is away.
//!
//! Consul's ring is the ring; this is what it was. It is read only where Consul gives no answer, and peers that know a
//! newer one pass that on. A node that was removed forgets it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringkv_common::name::NodeName;
use ringkv_common::ring::{ClusterId, Ring};

/// The file's name, in the folder of its node.
const FILE: &str = "ring.json";

/// Where one node's ring is kept.
#[derive(Debug)]
pub struct Kept {
    file: PathBuf,
}

impl Kept {
    /// Below the cluster's folder.
    pub fn of(data_dir: &Path, node: NodeName) -> Kept {
        Kept { file: data_dir.join(node.to_string()).join(FILE) }
    }

    /// What was kept; `None` where nothing was, or nothing that can be used, which is logged.
    pub fn read(&self) -> Option<Ring> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!("{} cannot be read: {error}", self.file.display());
                return None;
            }
        };
        Ring::from_json(&text)
            .inspect_err(|e| tracing::error!("the ring in {} is of no use: {e}", self.file.display()))
            .ok()
    }

    /// Keeps a ring, as a whole or not at all: a crash leaves the one before.
    fn write(&self, ring: &Ring) -> io::Result<()> {
        let json = ring.to_json().map_err(io::Error::other)?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let temporary = self.file.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(json.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.file)?;
        File::open(folder)?.sync_all()
    }

    fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Keeps the ring of a running node, and says whether what Consul has is still of the node that was started.
pub struct Keeper {
    node: NodeName,
    /// `None`: nothing is written to disk.
    kept: Option<Kept>,
    /// The cluster and the epoch of the ring that is kept by now.
    now: Option<(ClusterId, u64)>,
    /// The node's incarnation in the ring with which it was started, where that came from disk.
    started_as: Option<u64>,
    heard: bool,
}

impl Keeper {
    /// Nothing is known yet.
    pub fn new(node: NodeName, kept: Option<Kept>) -> Keeper {
        Keeper { node, kept, now: None, started_as: None, heard: false }
    }

    /// The ring to start with, where Consul is away and was never heard.
    pub fn last(&mut self) -> Option<Arc<Ring>> {
        if std::mem::replace(&mut self.heard, true) {
            return None;
        }
        let ring = self.kept.as_ref()?.read()?;
        self.started_as = Some(ring.node_named(self.node)?.incarnation);
        self.now = Some((ring.cluster_id, ring.epoch));
        Some(Arc::new(ring))
    }

    /// Consul has answered, with this ring or none. An error says why this node cannot be the one that is meant.
    pub fn heard(&mut self, ring: Option<&Ring>) -> Result<(), String> {
        self.heard = true;
        let Some(ring) = ring else { return Ok(()) };
        if self.now.is_some_and(|(cluster, epoch)| cluster != ring.cluster_id || epoch >= ring.epoch) {
            // Another cluster's, or an old one: the node does not take it either.
            return Ok(());
        }
        let listed = ring.node_named(self.node).map(|n| n.incarnation);
        if let (Some(was), Some(is)) = (self.started_as, listed)
            && was != is
        {
            return Err(format!(
                "it was started as {} of incarnation {was} while Consul was away, the ring has incarnation {is}",
                self.node
            ));
        }
        self.now = Some((ring.cluster_id, ring.epoch));
        if let Some(kept) = &self.kept {
            let done = if listed.is_some() { kept.write(ring) } else { kept.forget() };
            if let Err(error) = done {
                tracing::error!("the ring is not kept in {}: {error}", kept.file.display());
            }
        }
        Ok(())
    }
}

/// The newest ring that nodes of this folder kept.
pub fn newest(data_dir: &Path) -> Option<Ring> {
    nodes(data_dir).filter_map(|kept| kept.read()).max_by_key(|ring| ring.epoch)
}

/// Forgets all rings of this folder; how many there were.
pub fn forget_all(data_dir: &Path) -> io::Result<usize> {
    let mut count = 0;
    for kept in nodes(data_dir).filter(|kept| kept.file.exists()) {
        kept.forget()?;
        count += 1;
    }
    Ok(count)
}

fn nodes(data_dir: &Path) -> impl Iterator<Item = Kept> {
    let names = fs::read_dir(data_dir).into_iter().flatten().flatten();
    names.filter_map(|entry| {
        let _node: NodeName = entry.file_name().to_str()?.parse().ok()?;
        Some(Kept { file: entry.path().join(FILE) })
    })
}

#[cfg(test)]
mod tests {
    use ringkv_common::placement::Strategy;
    use ringkv_common::ring::Node;
    use ringkv_common::ring::plan::{Founding, found};

    use super::*;

    fn ring(cluster: u128, epoch: u64, incarnation: u64) -> Ring {
        let founding = Founding {
            cluster_id: ClusterId(cluster),
            strategy: Strategy::Hrw,
            chosen: true,
            partitions: 64,
            replicas: 1,
            balance: None,
        };
        let ports = NodeName(3).ports(None).expect("below 100");
        let (host, zone) = ("h".to_owned(), "z".to_owned());
        let node = Node { name: NodeName(3), incarnation: 1, host, ports, zone, weight: 100 };
        let mut ring = found(&founding, vec![node]).expect("a ring");
        ring.epoch = epoch;
        ring.nodes[0].incarnation = incarnation;
        ring
    }

    fn kept(folder: &tempfile::TempDir) -> Kept {
        Kept::of(folder.path(), NodeName(3))
    }

    #[test]
    fn the_newest_ring_of_the_cluster_is_kept_and_read_once_where_consul_is_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keeper = Keeper::new(NodeName(3), Some(kept(&folder)));
        assert_eq!(keeper.last(), None, "nothing was kept yet");
        for other in [ring(1, 4, 1), ring(1, 3, 1), ring(2, 9, 1)] {
            keeper.heard(Some(&other)).expect("it is the node that is meant");
        }
        let mut again = Keeper::new(NodeName(3), Some(kept(&folder)));
        assert_eq!(again.last().as_deref(), Some(&ring(1, 4, 1)));
        assert_eq!(again.last(), None, "only to start with");
        assert_eq!(newest(folder.path()), Some(ring(1, 4, 1)));
        let mut late = Keeper::new(NodeName(3), Some(kept(&folder)));
        late.heard(None).expect("nothing is wrong");
        assert_eq!(late.last(), None, "Consul was heard");
    }

    #[test]
    fn another_incarnation_is_another_node() {
        let folder = tempfile::tempdir().expect("a folder");
        kept(&folder).write(&ring(1, 4, 1)).expect("written");
        let mut keeper = Keeper::new(NodeName(3), Some(kept(&folder)));
        keeper.last().expect("kept");
        let why = keeper.heard(Some(&ring(1, 8, 7))).expect_err("it was removed and added again");
        assert!(why.contains("incarnation 1") && why.contains("incarnation 7"), "{why}");
    }

    #[test]
    fn who_was_removed_forgets_the_ring_and_what_is_broken_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut keeper = Keeper::new(NodeName(3), Some(kept(&folder)));
        keeper.heard(Some(&ring(1, 4, 1))).expect("fine");
        let mut without = ring(1, 5, 1);
        without.nodes[0].name = NodeName(8);
        keeper.heard(Some(&without)).expect("fine");
        assert_eq!(newest(folder.path()), None);
        kept(&folder).write(&ring(1, 4, 1)).expect("written");
        fs::write(folder.path().join("node-3").join(FILE), "{").expect("broken");
        assert_eq!(kept(&folder).read(), None);
        assert_eq!(forget_all(folder.path()).expect("gone"), 1);
        assert_eq!(forget_all(folder.path()).expect("nothing left"), 0);
    }
}
