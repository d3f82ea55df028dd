"""receiver.py -- a web server that answers as it is told, for receiver.lua.

    receiver.py FOLDER PORT [SECRET]      with FOLDER/server.crt and server.key: over TLS

Each request becomes two lines of JSON in FOLDER/log: {n, at, method, path, headers, body} when it
has come (at: seconds), {n, status} when it is answered. FOLDER/rules is a list of rules, read anew
whenever it changes; the first one that fits counts, without one the answer is 200:

    match, path   what body and path must contain      times    how often it counts
    login         what the header Authorization must not be
    short         true: of the body only its length is in the log
    status, headers, body   the answer                 gate     a file that must be there first
    cut           "request": the connection ends before an answer; "answer": in the middle of it

With a SECRET signatures are verified, by the package standardwebhooks where it is installed: the
first line has "verified": what did it, or why not.

SPDX-License-Identifier: MIT"""

import base64
import gzip
import hashlib
import hmac
import http.server
import json
import os
import socket
import ssl
import sys
import threading
import time

folder, port = sys.argv[1], int(sys.argv[2])
secret = sys.argv[3] if len(sys.argv) > 3 else None
lock = threading.Lock()
log = open(os.path.join(folder, "log"), "a", encoding="utf-8")
counter = 0
rules, rules_text = [], None


def verify(headers, body):
    try:
        import standardwebhooks
    except ImportError:
        text = headers["webhook-id"] + "." + headers["webhook-timestamp"] + "."
        digest = hmac.new(base64.b64decode(secret[len("whsec_"):]), text.encode() + body,
                          hashlib.sha256).digest()
        wanted = "v1," + base64.b64encode(digest).decode()
        fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
        ok = wanted in headers["webhook-signature"].split(" ") and fresh
        return "hmac" if ok else "the signature is another one"
    try:
        standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)
        return "standardwebhooks"
    except Exception as error:  # pylint: disable=broad-except
        return repr(error)


def write(entry):
    log.write(json.dumps(entry) + "\n")
    log.flush()


def rule_for(path, headers, body):
    global rules, rules_text
    try:
        with open(os.path.join(folder, "rules"), encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        text = "[]"
    if text != rules_text:
        rules, rules_text = json.loads(text), text
    for rule in rules:
        if rule.get("match", "") in body and rule.get("path", "") in path:
            if rule.get("login", "") == headers.get("authorization"):
                continue
            if rule.get("times", 1) > 0:
                if "times" in rule:
                    rule["times"] -= 1
                return rule
    return {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self):
        global counter
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        body = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
        headers = {name.lower(): value for name, value in self.headers.items()}
        text = body.decode("utf-8", "replace")
        with lock:
            counter += 1
            n = counter
            entry = {"n": n, "at": time.time(), "method": self.command, "path": self.path,
                     "headers": headers, "body": text}
            if secret:
                entry["verified"] = verify(headers, body)
            rule = rule_for(self.path, headers, text)
            if "short" in rule:
                entry["body"] = str(len(text))
            write(entry)
        while "gate" in rule and not os.path.exists(rule["gate"]):
            time.sleep(0.005)
        if rule.get("cut") == "request":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status = rule.get("status", 200)
        with lock:
            write({"n": n, "status": status})
        content = rule.get("body", "").encode()
        self.send_response(status)
        for name, value in rule.get("headers", {}).items():
            self.send_header(name, value)
        if rule.get("cut") == "answer":
            self.send_header("content-length", str(len(content) + 10))
            self.close_connection = True
        elif status != 204:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", port), Handler)
if os.path.exists(os.path.join(folder, "server.crt")):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(os.path.join(folder, "ready"), "w", encoding="utf-8") as ready:
    ready.write("ready")
server.serve_forever()
