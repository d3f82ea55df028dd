# browser.py: Chromium without a window, for a test to drive. SPDX-License-Identifier: MIT
#
#    browser.py CHROMIUM FOLDER
#
# Reads lines of JSON: {"open": URL}, {"eval": JavaScript}, {"shot": FILE, "width": N, "height": N,
# "dark": true}; answers each with a line of JSON, what the script is worth or null.

import base64
import json
import os
import subprocess
import sys

to_them, from_us = os.pipe()
from_them, to_us = os.pipe()


def set_descriptors():
    os.dup2(to_them, 3)
    os.dup2(to_us, 4)


for fd in (to_them, to_us):
    os.set_inheritable(fd, True)
# what is given on may be 3 or 4 already, so both are moved out of the way first
to_them, to_us = os.dup(to_them), os.dup(to_us)
while min(to_them, to_us) < 10:
    to_them, to_us = os.dup(to_them), os.dup(to_us)
os.set_inheritable(to_them, True)
os.set_inheritable(to_us, True)
browser = subprocess.Popen(
    [sys.argv[1], "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
     "--hide-scrollbars", "--disable-dev-shm-usage", "--user-data-dir=" + sys.argv[2],
     "--remote-debugging-pipe", "about:blank"],
    preexec_fn=set_descriptors, pass_fds=(3, 4, to_them, to_us), close_fds=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
os.close(to_them)
os.close(to_us)
answers = os.fdopen(from_them, "rb")
number = 0


def read_message():
    text = b""
    while True:
        c = answers.read(1)
        if not c:
            sys.exit("the browser is gone")
        if c == b"\0":
            return json.loads(text)
        text += c


def call(method, session=None, **params):
    global number
    number += 1
    message = {"id": number, "method": method, "params": params}
    if session:
        message["sessionId"] = session
    os.write(from_us, json.dumps(message).encode() + b"\0")
    while True:
        answer = read_message()
        if answer.get("id") == number:
            if "error" in answer:
                raise RuntimeError(answer["error"]["message"])
            return answer["result"]


target = call("Target.createTarget", url="about:blank")["targetId"]
page = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
call("Page.enable", page)
for line in sys.stdin:
    order, value = json.loads(line), None
    if "open" in order:
        call("Page.navigate", page, url=order["open"])
    elif "eval" in order:
        result = call("Runtime.evaluate", page, expression=order["eval"], returnByValue=True,
                      awaitPromise=True)
        value = result["result"].get("value")
    elif "shot" in order:
        call("Emulation.setDeviceMetricsOverride", page, width=order["width"],
             height=order["height"], deviceScaleFactor=1, mobile=False)
        scheme = "dark" if order.get("dark") else "light"
        call("Emulation.setEmulatedMedia", page,
             features=[{"name": "prefers-color-scheme", "value": scheme}])
        shot = call("Page.captureScreenshot", page, format="png")
        with open(order["shot"], "wb") as f:
            f.write(base64.b64decode(shot["data"]))
    print(json.dumps(value), flush=True)
browser.terminate()
browser.wait()
