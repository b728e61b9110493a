"""A plain REQ client that never stops and never tries again: puts and gets at one node until standard input closes.

Usage: steady_client.py CLIENT_PORT
Prints `started` after its first reply, and at the end one JSON object: operations, and what was wrong.
"""
import json
import select
import sys

import zmq

client = zmq.Context().socket(zmq.REQ)
client.linger = 0
client.rcvtimeo = 10_000
client.connect(f"tcp://127.0.0.1:{sys.argv[1]}")


def ask(request):
    client.send_json(request)
    return client.recv_json()


operations, wrong, written = 0, [], {}
while not select.select([sys.stdin], [], [], 0)[0]:
    key = f"steady-{operations % 500}"
    if key in written and operations // 500 % 2 == 1:
        request, expected = {"op": "GET_ONE", "key": key}, {"key": key, "value": written[key]}
    else:
        request, expected = {"op": "PUT", "key": key, "value": operations}, {"status": "OK"}
        written[key] = operations
    try:
        reply = ask(request)
    except zmq.Again:
        # A REQ socket without its reply cannot go on.
        wrong.append(f"no reply to {request}")
        break
    if reply != expected:
        wrong.append(f"{request}: {reply}, not {expected}")
    operations += 1
    if operations == 1:
        print("started", flush=True)
print(json.dumps({"operations": operations, "wrong": wrong[:10], "written": written}))
