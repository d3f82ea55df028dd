# nats_nonces.py: what a server of NATS says to who logs in. SPDX-License-Identifier: MIT
#
#    nats_nonces.py NONCE...
#
# Listens on a port of 127.0.0.1, which it prints. To each connection it gives one of the nonces to
# be signed, the last one to all that come later. It prints "signed" or "unsigned", lets in who has
# signed, and ends the connection.

import json
import socket
import sys

nonces = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    conn = listener.accept()[0]
    stream = conn.makefile("rwb")
    info = {"server_id": "N", "version": "2.9.10", "proto": 1, "headers": True,
            "max_payload": 1 << 20, "auth_required": True, "nonce": nonces[0]}
    nonces = nonces[1:] or nonces
    try:
        stream.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        stream.flush()
        word, _, options = stream.readline().partition(b" ")
        if word == b"CONNECT":
            is_signed = bool(json.loads(options).get("sig"))
            print("signed" if is_signed else "unsigned", flush=True)
            stream.readline()
            stream.write(b"PONG\r\n" if is_signed else b"-ERR 'Authorization Violation'\r\n")
            stream.flush()
    except OSError:
        pass
    conn.close()
