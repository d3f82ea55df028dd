"""opensearch.py -- stands in for OpenSearch, which Debian does not have: the part of its API that
the sink uses, as its manual has it. For opensearch.lua.

    opensearch.py FOLDER PORT

POST /_bulk with version_type external_gte, also of deletes; GET /INDEX: its documents by id. PUT
and DELETE of /INDEX, GET and PUT of /INDEX/_settings and /INDEX/_mapping, and of /_cluster/settings
what is persistent. Of settings those have an effect that are called blocks: the documents of an
index, or all requests, are refused. FOLDER/requests: for each request the indexes of its documents.
Documents are in FOLDER/documents, a line each, so that they survive a kill. A document whose field
`name` begins with "bad" is refused, one with "busy" is to come again, twice. FOLDER/down: while
that file is there all answers are 503. FOLDER/refusal: the status, type and reason with which all
documents are refused while that file is there.

SPDX-License-Identifier: MIT"""

import gzip
import http.server
import json
import os
import sys
import threading

folder, port = sys.argv[1], int(sys.argv[2])
lock = threading.Lock()
documents = {}  # (index, id) -> [version, document or None]
busy = {}
made = {}  # index -> {"settings": flat, "mappings":}
cluster = {}  # settings, flat
# setting -> the status and reason with which documents are refused
BLOCKS = {
    "index.blocks.write": (403, "index [%s] blocked by: [FORBIDDEN/8/index write (api)];"),
    "index.blocks.read_only_allow_delete": (429, "index [%s] blocked by: [TOO_MANY_REQUESTS/12/disk"
        " usage exceeded flood-stage watermark, index has read-only-allow-delete block];"),
    "cluster.blocks.read_only": (403, "blocked by: [FORBIDDEN/6/cluster read-only (api)];"),
    "cluster.blocks.read_only_allow_delete": (403,
        "blocked by: [FORBIDDEN/13/cluster read-only / allow delete (api)];"),
}
path = os.path.join(folder, "documents")
if os.path.exists(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                key, value = json.loads(line)
                documents[tuple(key)] = value
journal = open(path, "a", encoding="utf-8")


requests = open(os.path.join(folder, "requests"), "a", encoding="utf-8")


def error(status, kind, reason):
    return {"status": status, "error": {"type": kind, "reason": reason}}


# What a block that is set answers, or None.
def block(settings, index):
    for name, (status, reason) in BLOCKS.items():
        if settings.get(name) == "true":
            return error(status, "cluster_block_exception", reason.replace("%s", index))


# Takes settings over; None removes one.
def change(settings, changes):
    for name, value in changes.items():
        settings.pop(name, None)
        if value is not None:
            settings[name] = json.dumps(value)


def apply(action, meta, document):
    key = (meta["_index"], meta["_id"])
    assert meta["version_type"] == "external_gte"
    there = documents.get(key)
    if os.path.exists(os.path.join(folder, "refusal")):
        with open(os.path.join(folder, "refusal"), encoding="utf-8") as words:
            status, kind, reason = words.read().split(" ", 2)
        return error(int(status), kind, reason)
    home = made.setdefault(meta["_index"], {"settings": {}, "mappings": {}})
    blocked = block(home["settings"], meta["_index"])
    if blocked:
        return blocked
    if there and there[0] > meta["version"]:
        return error(409, "version_conflict_engine_exception", "the current version is higher")
    name = str((document or {}).get("name"))
    if name.startswith("bad"):
        return error(400, "mapper_parsing_exception", "failed to parse " + "x" * 300)
    if name.startswith("busy") and busy.setdefault(key, 2) > 0:
        busy[key] -= 1
        return error(429, "rejected_execution_exception", "queue is full")
    documents[key] = [meta["version"], document]
    journal.write(json.dumps([key, documents[key]]) + "\n")
    if action == "delete" and not (there and there[1]):
        return {"status": 404}
    return {"status": 200 if there else 201}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if os.path.exists(os.path.join(folder, "down")):
            return self.answer(503, {"error": "down"})
        if not self.path.startswith("/_bulk?"):
            return self.answer(404, {"error": "no such path"})
        assert body.endswith(b"\n")
        lines, items, at = body.decode().split("\n")[:-1], [], 0
        with lock:
            blocked = block(cluster, "")
            if blocked:
                return self.answer(blocked["status"], blocked)
            while at < len(lines):
                (action, meta), = json.loads(lines[at]).items()
                document = None
                at += 1
                if action == "index":
                    document = json.loads(lines[at])
                    at += 1
                items.append({action: apply(action, meta, document)})
                print(meta["_index"], end=" ", file=requests)
            print(file=requests, flush=True)
            journal.flush()
        return self.answer(200, {"errors": any("error" in list(item.values())[0]
                                               for item in items), "items": items})

    def json(self):
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def do_PUT(self):
        _, index, *what = self.path.split("/")
        body = self.json()
        with lock:
            if not what:
                made[index] = {"settings": {}, "mappings": body.get("mappings", {})}
                change(made[index]["settings"], body.get("settings", {}))
            elif index == "_cluster":
                change(cluster, body["persistent"])
            elif what == ["_settings"]:
                change(made[index]["settings"], body)
            elif what == ["_mapping"]:
                made[index]["mappings"].update(body)
        self.answer(200, {"acknowledged": True})

    def do_DELETE(self):
        with lock:
            made.pop(self.path[1:], None)
        self.answer(200, {"acknowledged": True})

    def do_GET(self):
        _, index, *what = self.path.split("?")[0].split("/")
        if index == "_cluster":
            with lock:
                return self.answer(200, {"persistent": cluster, "transient": {}})
        if what in (["_settings"], ["_mapping"]):
            with lock:
                there = index in made
                part = what[0][1:] if what[0] == "_settings" else "mappings"
                found = {index: {part: made[index][part]}} if there else {"error": "no such index"}
            return self.answer(200 if there else 404, found)
        with lock:
            found = {key[1]: value[1] for key, value in documents.items()
                     if key[0] == self.path[1:] and value[1] is not None}
        self.answer(200, found)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", port), Handler)
with open(os.path.join(folder, "ready"), "w", encoding="utf-8") as ready:
    ready.write("ready")
server.serve_forever()
