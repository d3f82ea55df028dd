# hostile.py: a client of --listen that means no good. SPDX-License-Identifier: MIT
#
#    hostile.py PORT WHAT [SECONDS]
#
# garbage: requests that are none, for so long about ten a second, at least each once; crowd: a
# thousand connections that say nothing, held for some seconds; flood: a body of a gigabyte; deaf:
# asks for streams and more, and reads nothing, for some seconds. Prints "done".

import socket
import sys
import time

port, what = int(sys.argv[1]), sys.argv[2]
until = time.monotonic() + float(sys.argv[3] if len(sys.argv) > 3 else 0)


def connect(seconds=10):
    s = socket.socket()
    s.settimeout(seconds)
    s.connect(("127.0.0.1", port))
    return s


def send(s, data):
    try:
        s.sendall(data)
        return True
    except OSError:
        return False


GARBAGE = (b"\0\0\0\0", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000,
           b"GET /status HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
           b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
           b"GET /%00%ff%zz/../status HTTP/1.1\r\nHost: localhost\r\n\r\n",
           b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
           b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
           b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
           b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic ====\r\n\r\n")

if what == "garbage":
    while True:
        for text in GARBAGE:
            s = connect()
            send(s, text)
            s.settimeout(0.1)
            try:
                while s.recv(65536):
                    pass
            except OSError:
                pass
            s.close()
        if time.monotonic() >= until:
            break
elif what == "crowd":
    crowd = []
    for i in range(1000):
        try:
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
            crowd.append(s)
        except OSError:
            break
    time.sleep(1)
elif what == "flood":
    s = connect()
    send(s, b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n")
    piece = b"x" * (1 << 20)
    for _ in range(1024):
        if not send(s, piece):
            break
elif what == "deaf":
    deaf = []
    for i in range(40):
        s = connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = b"/events" if i % 2 == 0 else b"/metrics"
        send(s, (b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") * 20)
        deaf.append(s)
    time.sleep(1)
print("done", flush=True)
