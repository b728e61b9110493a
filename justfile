# What one types most. `just` lists it; every line can be typed without just as well.

# Four nodes with the embedded Consul agent.
server *ARGS:
    cargo run --release --bin server_consumer -- --dev {{ARGS}}

# The producer, or any other command of the client.
client *ARGS:
    cargo run --release --bin client_producer -- {{ARGS}}

# Every test.
test:
    scripts/test.sh

# ringkv beside Redis and a raw ZeroMQ echo.
bench *ARGS:
    cargo run --release -p ringkv-bench -- {{ARGS}}

# The whole story: agent, nodes, producer, an add, a remove, the check, then a cluster to play with.
demo:
    scripts/demo.sh

# Build output and the data of --dev.
clean:
    cargo clean
    rm -rf ringkv-data

# Ends the launcher that `just server` started, and with it its nodes.
stop:
    scripts/stop.sh
