//! What a cluster is called in Consul: its keys, its service, its lock.

use ringkv_common::name::NodeName;

/// The cluster that is meant where none is named. Its size stands at the top level, where operators expect it.
pub const DEFAULT_CLUSTER: &str = "ringkv";

/// The names of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    cluster: String,
}

impl Keys {
    /// The names of a cluster; an error where its name would not do as a key, a service and a folder.
    pub fn new(cluster: &str) -> Result<Keys, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if cluster.is_empty() || cluster.len() > 64 || !cluster.chars().all(fits) {
            return Err(format!(
                "--cluster is {cluster:?}: 1 to 64 letters, digits, - and _ make a name in Consul"
            ));
        }
        Ok(Keys { cluster: cluster.to_owned() })
    }

    /// The cluster's name, which is also its service's.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The number of nodes it is founded with.
    pub fn size(&self) -> String {
        if self.cluster == DEFAULT_CLUSTER { "cluster_size".to_owned() } else { self.below("cluster_size") }
    }

    /// The ring.
    pub fn ring(&self) -> String {
        self.below("ring")
    }

    /// Who orchestrates.
    pub fn lock(&self) -> String {
        self.below("lock")
    }

    /// What all signals' keys begin with.
    pub fn signals(&self) -> String {
        self.below("signals/")
    }

    /// A signal's key.
    pub fn signal(&self, name: &str) -> String {
        self.signals() + name
    }

    /// The name of the signal that stands under a key, which may be empty: then it is refused like any other that cannot
    /// be read. `None` where there is no signal: another key, or the bare folder that Consul's web page makes.
    pub fn signal_name<'a>(&self, key: &'a str, value: &[u8]) -> Option<&'a str> {
        key.strip_prefix(&self.signals()).filter(|name| !name.is_empty() || !value.is_empty())
    }

    /// What all results' keys begin with.
    pub fn results(&self) -> String {
        self.below("results/")
    }

    /// The key of a signal's result.
    pub fn result(&self, name: &str) -> String {
        self.results() + name
    }

    /// The id under which a node registers its service.
    pub fn service_id(&self, node: NodeName) -> String {
        format!("{}-{node}", self.cluster)
    }

    /// The node that registered under this id.
    pub fn node_of(&self, service_id: &str) -> Option<NodeName> {
        service_id.strip_prefix(&self.cluster)?.strip_prefix('-')?.parse().ok()
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cluster_keeps_its_size_at_the_top() {
        let keys = Keys::new(DEFAULT_CLUSTER).expect("a name");
        assert_eq!((keys.size().as_str(), keys.ring().as_str()), ("cluster_size", "ringkv/ring"));
        assert_eq!(keys.signal("node-4"), "ringkv/signals/node-4");
        let keys = Keys::new("blue").expect("a name");
        assert_eq!((keys.size().as_str(), keys.lock().as_str()), ("blue/cluster_size", "blue/lock"));
    }

    #[test]
    fn a_folder_is_no_signal_and_whatever_has_a_value_is_one() {
        let keys = Keys::new("blue").expect("a name");
        assert_eq!(keys.signal_name("blue/signals/node-4", b"add"), Some("node-4"));
        assert_eq!(keys.signal_name("blue/signals/node-4", b""), Some("node-4"));
        assert_eq!(keys.signal_name("blue/signals/", b"add"), Some(""));
        assert_eq!(keys.signal_name("blue/signals/", b""), None);
        assert_eq!(keys.signal_name("ringkv/signals/node-4", b"add"), None);
    }

    #[test]
    fn a_service_id_names_its_node() {
        let keys = Keys::new("blue").expect("a name");
        assert_eq!(keys.node_of(&keys.service_id(NodeName(7))), Some(NodeName(7)));
        assert_eq!(keys.node_of("ringkv-node-7"), None);
        assert_eq!(keys.node_of("blue-node-07"), None);
    }

    #[test]
    fn what_makes_no_key_is_refused() {
        for name in ["", "a/b", "a b", "..", "ü"] {
            assert!(Keys::new(name).is_err(), "{name:?}");
        }
    }
}
