# notified.py: what systemd is told: prints each message to the socket as a line, with \n as "|".
# SPDX-License-Identifier: MIT
import socket
import sys

s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(s.recv(65536).decode().replace("\n", "|"), flush=True)
