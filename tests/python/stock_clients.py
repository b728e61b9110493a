"""Stock pyzmq clients against a running cluster: REQ and DEALER, what they get, and what bad input gets.

Usage: stock_clients.py CONSUL_URL CLIENT_PORT [CLIENT_PORT ...]
Prints one line for each thing that holds, and ends with 1 at the first that does not.
"""
import base64
import json
import socket
import struct
import sys
import urllib.request

import xxhash
import zmq

CONSUL, PORTS = sys.argv[1], [int(p) for p in sys.argv[2:]]
CONTEXT = zmq.Context()


def connect(kind, port=PORTS[0]):
    client = CONTEXT.socket(kind)
    client.linger = 0
    client.rcvtimeo = 10_000
    client.connect(f"tcp://127.0.0.1:{port}")
    return client


def ask(request, port=PORTS[0]):
    client = connect(zmq.REQ, port)
    client.send_json(request)
    reply = client.recv_json()
    client.close()
    return reply


def holds(what, condition, seen=None):
    if not condition:
        sys.exit(f"does not hold: {what}: {seen!r}")
    print(f"holds: {what}", flush=True)


def kv(key):
    with urllib.request.urlopen(f"{CONSUL}/v1/kv/{key}?raw", timeout=10) as reply:
        return reply.read()


def the_originals_messages():
    holds("PUT", ask({"op": "PUT", "key": "k1", "value": "v1"}) == {"status": "OK"})
    reply = ask({"op": "GET_ONE", "key": "k1"}, PORTS[-1])
    holds("GET_ONE at any node", reply == {"key": "k1", "value": "v1"}, reply)
    client = connect(zmq.REQ)
    client.send_string('{"op":"GET_ALL",}')
    reply = client.recv_json()
    holds("GET_ALL with the original's comma", "collection" in reply, reply)
    together = [r for port in PORTS for r in ask({"op": "GET_ALL"}, port)["collection"]]
    holds("all nodes' collections hold the key once", together.count({"key": "k1", "value": "v1"}) == 1, together)
    holds("DELETE", ask({"op": "DELETE", "key": "k1"}) == {"status": "OK"})
    reply = ask({"op": "GET_ONE", "key": "k1"})
    holds("KEY_NOT_FOUND", reply["code"] == "KEY_NOT_FOUND", reply)


def values_come_back_as_sent():
    for text in ['"é\\u00e9"', "1e400", '{"b":1, "a":[null,true]}', "-0.0", '"\\ud83d\\ude00"', "123456789012345678901234567890"]:
        client = connect(zmq.REQ)
        client.send_string(f'{{"op":"PUT","key":"text","value":{text}}}')
        client.recv()
        client.send_string('{"op":"GET_ONE","key":"text"}')
        reply = client.recv_string()
        holds(f"{text} byte for byte", reply == f'{{"key":"text","value":{text}}}', reply)
    client = connect(zmq.DEALER)
    value = bytes(range(256)) * 4096
    client.send_multipart([b"", b'{"op":"PUT","key":"binary"}', value])
    holds("a binary value of 1 MiB", json.loads(client.recv_multipart()[1]) == {"status": "OK"})
    reply = ask({"op": "GET_ONE", "key": "binary"}, PORTS[-1])
    holds("comes back as base64", base64.b64decode(reply["value_b64"]) == value)
    client.send_multipart([b'{"op":"GET_ONE","key":"binary","want":["raw"]}'])
    holds("or as a second frame", client.recv_multipart()[1] == value)


def many_in_flight_on_one_dealer():
    client = connect(zmq.DEALER)
    for n in range(512):
        client.send_json({"op": "PUT", "key": f"d{n}", "value": n, "id": n})
    ids = sorted(client.recv_json()["id"] for _ in range(512))
    holds("512 in flight, each id answered once", ids == list(range(512)))
    reply = ask({"op": "MGET", "keys": ["d0", "d511", "none"]})
    codes = [r.get("value", r.get("code")) for r in reply["results"]]
    holds("MGET has an outcome a key", codes == [0, 511, "KEY_NOT_FOUND"], reply)


def contexts_and_siblings():
    put = lambda value, context: ask({"op": "PUT", "key": "s", "value": value, "context": context})
    put("a", {})
    put("b", {})
    reply = ask({"op": "GET_ONE", "key": "s"})
    holds("two writes with an empty context are siblings, newest first", reply["values"] == ["b", "a"], reply)
    holds("value is the newest", reply["value"] == "b", reply)
    put("c", reply["context"])
    reply = ask({"op": "GET_ONE", "key": "s"})
    holds("a write with their context settles them", reply == {"key": "s", "value": "c"}, reply)
    put("d", {"192.168.1.69": 2})
    reply = ask({"op": "GET_ONE", "key": "s"})
    holds("foreign names are kept and cover nothing", reply["context"]["192.168.1.69"] == 2 and len(reply["values"]) == 2, reply)
    ask({"op": "PUT", "key": "s", "value": "e"})
    holds("a write without context overwrites", ask({"op": "GET_ONE", "key": "s"})["value"] == "e")


def bad_input_is_told_what_is_wrong():
    deep = '{"op":"PUT","key":"k","value":' + "[" * 200 + "]" * 200 + "}"
    cases = [
        (b"", "BAD_REQUEST BAD_JSON"),
        (b"\xff\xfe", "BAD_JSON"),
        (b"put k v", "BAD_JSON"),
        (b"[]", "BAD_REQUEST"),
        (b'{"op":"PUT"}', "BAD_REQUEST"),
        (b'{"op":"NOPE"}', "UNKNOWN_OP"),
        (b'{"op":"GET_ONE","key":""}', "BAD_REQUEST"),
        (b'{"op":"GET_ONE","key":"' + b"k" * 1025 + b'"}', "TOO_LARGE"),
        (b'{"op":"PUT","key":"k","value":"' + b"v" * (1 << 20) + b'"}', "TOO_LARGE"),
        (b'{"op":"GET_ONE","key":7}', "BAD_REQUEST"),
        (b'{"op":"GET_ONE","key":"a","key":"b"}', "BAD_REQUEST"),
        (b'{"op":"PUT","key":"k","value":"\\ud800"}', "BAD_REQUEST"),
        (deep.encode(), "BAD_REQUEST"),
        (b'{"op":"GET_ONE","key":"k","timeout_ms":1e999}', "BAD_REQUEST BAD_JSON"),
        (b'{"op":"GET_ONE","key":"k","timeout_ms":99999999999999999999}', "BAD_REQUEST"),
        (b" " * ((64 << 20) + 1), "TOO_LARGE"),
    ]
    for body, codes in cases:
        client = connect(zmq.REQ)
        client.send(body)
        reply = client.recv_json()
        shown = body[:40].decode(errors="replace")
        holds(f"{shown!r} ({len(body)} bytes): {codes}", reply.get("code") in codes.split() and reply["message"], reply)
    client = connect(zmq.DEALER)
    client.send_multipart([b"frame"] * 20)
    reply = client.recv_json()
    holds("twenty frames", reply["code"] == "BAD_REQUEST" and "20 frames" in reply["message"], reply)


def strangers_hold_nobody_up():
    half = socket.create_connection(("127.0.0.1", PORTS[0]))
    half.sendall(b"\xff\x00\x00")
    http = socket.create_connection(("127.0.0.1", PORTS[0]))
    http.sendall(b"GET / HTTP/1.0\r\n\r\n")
    noise = socket.create_connection(("127.0.0.1", PORTS[0]))
    noise.sendall(struct.pack("64B", *range(64)))
    silent = connect(zmq.REQ)
    silent.send_json({"op": "GET_ALL"})
    for n in range(100):
        ask({"op": "PING"})
    holds("half a greeting, HTTP, noise and a REQ that never reads hold nobody up", True)
    for s in (half, http, noise):
        s.close()


def routes_by_the_ring_alone():
    ring = json.loads(kv("ringkv/ring"))
    table = ring["change"]["target"] if ring["change"] and ring["change"]["phase"] == "switch" else ring["owners"]
    cells = base64.b64decode(table["cells"])
    shift = 64 - ring["partitions"].bit_length() + 1

    def owner(key):
        partition = xxhash.xxh3_64_intdigest(key.encode()) >> shift
        return ring["nodes"][cells[partition * table["width"]]]

    clients = {n["name"]: connect(zmq.DEALER, n["client"]) for n in ring["nodes"]}
    keys = [f"route-{n}-é" for n in range(10_000)]
    for start in range(0, len(keys), 500):
        batch = keys[start : start + 500]
        for key in batch:
            request = {"op": "PUT", "key": key, "value": key, "id": key, "want": ["receipt"]}
            clients[owner(key)["name"]].send_json(request)
        for key in batch:
            name = owner(key)["name"]
            reply = clients[name].recv_json()
            if reply["receipt"]["nodes"] != [name] or reply["status"] != "OK":
                sys.exit(f"{reply} came from elsewhere than {name}")
    holds("10,000 keys routed by xxhash and the ring alone each met their owner", True)
    for key in keys[::500]:
        explained = ask({"op": "EXPLAIN", "key": key})
        hash_ = f"{xxhash.xxh3_64_intdigest(key.encode()):016x}"
        if explained["owners"][0] != owner(key)["name"] or explained["hash"] != hash_:
            sys.exit(f"EXPLAIN says {explained}")
    holds("EXPLAIN agrees", True)
    for key in keys:
        clients[owner(key)["name"]].send_json({"op": "DELETE", "key": key})
        clients[owner(key)["name"]].recv()


for test in [
    the_originals_messages,
    values_come_back_as_sent,
    many_in_flight_on_one_dealer,
    contexts_and_siblings,
    bad_input_is_told_what_is_wrong,
    strangers_hold_nobody_up,
    routes_by_the_ring_alone,
]:
    test()
print("all hold")
