//! What is sent, and what must come back.
//!
//! Messages are put together from templates, a key's digits and one of a few values, as redis-benchmark does it too:
//! requests made beforehand for every key would be tens of megabytes, and the load would push the server's data out
//! of the caches that both share.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 64;
/// Different values; a key has always the same one.
const VALUES: u64 = 256;

/// One request: which keys, and whether they are written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    write: bool,
    /// The first of its keys; the others follow.
    first: u64,
}

/// What is chosen among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// As many writes as reads.
    Both,
    /// PUT alone.
    Puts,
    /// GET_ONE alone.
    Gets,
    /// GET_ONE alone, answered by one replica: `"r":1`.
    GetsOfOne,
}

/// The numbers of keys.
enum Keys {
    Range(Range<u64>),
    Chosen(Arc<[u64]>),
}

/// Requests to choose from: as many writes as reads unless told otherwise, of the same keys.
pub struct Traffic {
    keys: Keys,
    /// Keys in one message.
    each: u64,
    mix: Mix,
    values: Vec<String>,
}

impl Traffic {
    /// PUT and GET_ONE of these keys.
    pub fn single(keys: Range<u64>) -> Traffic {
        Traffic::batches(keys, 1)
    }

    /// MPUT and MGET of `each` keys a message; of keys that fill no message, none is sent. One key a message is PUT
    /// and GET_ONE.
    pub fn batches(keys: Range<u64>, each: u64) -> Traffic {
        Traffic::new(Keys::Range(keys), each, Mix::Both)
    }

    /// One key a message, of keys with these numbers.
    pub fn chosen(keys: Arc<[u64]>, mix: Mix) -> Traffic {
        Traffic::new(Keys::Chosen(keys), 1, mix)
    }

    fn new(keys: Keys, each: u64, mix: Mix) -> Traffic {
        Traffic { keys, each, mix, values: (0..VALUES).map(value).collect() }
    }

    /// Keys in one message.
    pub fn keys_each(&self) -> u64 {
        self.each
    }

    /// How many messages write every key once.
    pub fn messages(&self) -> u64 {
        match &self.keys {
            Keys::Range(keys) => (keys.end - keys.start) / self.each,
            Keys::Chosen(keys) => keys.len() as u64,
        }
    }

    /// A request that a random number names.
    pub fn pick(&self, random: u64) -> Ask {
        let write = match self.mix {
            Mix::Both => random & 1 == 0,
            Mix::Puts => true,
            Mix::Gets | Mix::GetsOfOne => false,
        };
        Ask { write, first: self.first((random >> 1) % self.messages()) }
    }

    /// Every write, once.
    pub fn writes(&self) -> impl Iterator<Item = Ask> {
        (0..self.messages()).map(|message| Ask { write: true, first: self.first(message) })
    }

    fn first(&self, message: u64) -> u64 {
        match &self.keys {
            Keys::Range(keys) => keys.start + message * self.each,
            Keys::Chosen(keys) => keys[message as usize],
        }
    }

    /// The request's JSON.
    pub fn request(&self, ask: Ask, out: &mut Vec<u8>) {
        out.clear();
        match (ask.write, self.each) {
            (true, 1) => {
                out.extend_from_slice(br#"{"op":"PUT","#);
                self.fields(ask.first, out);
                out.push(b'}');
            }
            (false, 1) => {
                out.extend_from_slice(br#"{"op":"GET_ONE","key":""#);
                key(ask.first, out);
                out.extend_from_slice(if self.mix == Mix::GetsOfOne { br#"","r":1}"# } else { br#""}"# });
            }
            (true, _) => self.list(ask, br#"{"op":"MPUT","items":["#, out, |n, out| self.record(n, out)),
            (false, _) => self.list(ask, br#"{"op":"MGET","keys":["#, out, |n, out| {
                out.push(b'"');
                key(n, out);
                out.push(b'"');
            }),
        }
    }

    /// What ringkv answers, byte for byte.
    pub fn reply(&self, ask: Ask, out: &mut Vec<u8>) {
        const STORED: &[u8] = br#"{"status":"OK"}"#;
        const RESULTS: &[u8] = br#"{"status":"OK","results":["#;
        out.clear();
        match (ask.write, self.each) {
            (true, 1) => out.extend_from_slice(STORED),
            (false, 1) => self.record(ask.first, out),
            (true, _) => self.list(ask, RESULTS, out, |_, out| out.extend_from_slice(STORED)),
            (false, _) => self.list(ask, RESULTS, out, |n, out| self.record(n, out)),
        }
    }

    fn list(&self, ask: Ask, head: &[u8], out: &mut Vec<u8>, mut item: impl FnMut(u64, &mut Vec<u8>)) {
        out.extend_from_slice(head);
        for n in ask.first..ask.first + self.each {
            if n > ask.first {
                out.push(b',');
            }
            item(n, out);
        }
        out.extend_from_slice(b"]}");
    }

    fn record(&self, n: u64, out: &mut Vec<u8>) {
        out.push(b'{');
        self.fields(n, out);
        out.push(b'}');
    }

    fn fields(&self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""key":""#);
        key(n, out);
        out.extend_from_slice(br#"","value":""#);
        out.extend_from_slice(self.value(n));
        out.push(b'"');
    }

    /// The value of a key's number.
    pub fn value(&self, n: u64) -> &[u8] {
        self.values[(n % VALUES) as usize].as_bytes()
    }
}

/// Appends the key of a number: 16 bytes, as redis-benchmark makes them.
pub fn key(mut n: u64, out: &mut Vec<u8>) {
    let mut text = *b"key:000000000000";
    for digit in text[4..].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&text);
}

/// 64 hex digits that follow from a number.
fn value(n: u64) -> String {
    let mut digits = Vec::with_capacity(VALUE_BYTES);
    let mut state = n;
    while digits.len() < VALUE_BYTES {
        state = splitmix(state);
        write!(digits, "{state:016x}").expect("a Vec takes all that is written");
    }
    String::from_utf8(digits).expect("hex digits are ASCII")
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014, section 3): well-mixed numbers from a counter.
pub fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn both(traffic: &Traffic, ask: Ask) -> (Value, Value) {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        traffic.request(ask, &mut request);
        traffic.reply(ask, &mut reply);
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).expect("JSON");
        (json(&request), json(&reply))
    }

    #[test]
    fn a_key_has_16_bytes_and_a_value_64() {
        let mut text = Vec::new();
        key(99_999, &mut text);
        assert_eq!(text, b"key:000000099999");
        let traffic = Traffic::single(0..3);
        assert_eq!(traffic.value(2).len(), VALUE_BYTES);
        assert_ne!(traffic.value(1), traffic.value(2));
    }

    #[test]
    fn one_key_a_message_is_put_and_get_one() {
        let traffic = Traffic::single(5..8);
        let value = String::from_utf8_lossy(traffic.value(6));
        let write = both(&traffic, Ask { write: true, first: 6 });
        let record = json!({"key": "key:000000000006", "value": value});
        let put = json!({"op": "PUT", "key": record["key"], "value": record["value"]});
        assert_eq!(write, (put, json!({"status": "OK"})));
        let read = both(&traffic, Ask { write: false, first: 6 });
        assert_eq!(read, (json!({"op": "GET_ONE", "key": record["key"]}), record));
    }

    #[test]
    fn several_keys_a_message_are_mput_and_mget() {
        let traffic = Traffic::batches(0..70, 32);
        assert_eq!(traffic.writes().map(|ask| ask.first).collect::<Vec<_>>(), [0, 32]);
        let (write, stored) = both(&traffic, Ask { write: true, first: 32 });
        assert_eq!((&write["op"], &write["items"][31]["key"]), (&json!("MPUT"), &json!("key:000000000063")));
        assert_eq!(stored["results"].as_array().map(Vec::len), Some(32));
        let (read, found) = both(&traffic, Ask { write: false, first: 32 });
        assert_eq!(read["keys"][0], "key:000000000032");
        assert_eq!(found["results"], write["items"]);
    }

    #[test]
    fn chosen_keys_are_written_once_and_picked_as_told() {
        let picks = |mix| -> Vec<Ask> {
            let traffic = Traffic::chosen([3, 9, 27].into(), mix);
            assert_eq!(traffic.writes().map(|ask| ask.first).collect::<Vec<_>>(), [3, 9, 27]);
            (0..100).map(|n| traffic.pick(splitmix(n))).collect()
        };
        assert!(picks(Mix::Both).iter().all(|ask| [3, 9, 27].contains(&ask.first)));
        assert!(picks(Mix::Puts).iter().all(|ask| ask.write));
        assert!(picks(Mix::Gets).iter().all(|ask| !ask.write));
        let traffic = Traffic::chosen([3].into(), Mix::GetsOfOne);
        let (read, found) = both(&traffic, traffic.pick(0));
        assert_eq!(read, json!({"op": "GET_ONE", "key": "key:000000000003", "r": 1}));
        assert_eq!(found["key"], read["key"]);
    }

    #[test]
    fn picks_are_of_the_keys_and_half_of_them_write() {
        let traffic = Traffic::single(5..8);
        let picks: Vec<Ask> = (0..3_000).map(|n| traffic.pick(splitmix(n))).collect();
        assert!(picks.iter().all(|ask| (5..8).contains(&ask.first)));
        let writes = picks.iter().filter(|ask| ask.write).count();
        assert!((1_300..1_700).contains(&writes), "{writes} of 3000 write");
    }
}
