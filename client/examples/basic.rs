//! Stores, reads and lists a few records: `cargo run -p ringkv-client --example basic -- 127.0.0.1:2000`.

use std::time::Duration;

use ringkv_client::{Client, Error, Op, Scope, Value};

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2000".to_owned());
    let mut client = Client::connect(&[address])?;

    client.put("greeting", "hello")?;
    client.put("list", Value::json("[1, 2.50]")?)?;
    if let Some(record) = client.get("greeting")? {
        println!("{} = {:?}", record.key, record.value);
    }

    // A thousand writes under way at once; each is done once, whatever happens to a node meanwhile.
    for n in 0..1000 {
        client.submit(Op::put(&format!("key-{n}"), "value")?)?;
    }
    while client.in_flight() > 0 {
        for completion in client.poll(Duration::from_secs(1))? {
            completion.outcome?;
        }
    }

    let mut count = 0;
    for record in client.get_all(Scope::Cluster, None, 500) {
        record?;
        count += 1;
    }
    println!("the cluster holds {count} records");
    Ok(())
}
