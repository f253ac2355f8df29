"""A machine of its own for names: a network that is loopback alone, a name server that knows one name, and a model's server
there. Runs its arguments on it and ends as they do.

    unshare --net --mount python3 names.py RESOLV HOSTS COMMAND...
"""

import fcntl
import http.server
import socket
import struct
import subprocess
import sys
import threading

NAME, ADDRESS, PORT = "gateway.example", "127.0.0.7", 8077
SIOCSIFFLAGS, UP = 0x8914, 0x1
A, AAAA, NO_SUCH_NAME = 1, 28, 3


def answer(question):
    """What a name server says: the one address of the one name, and that there is no other name."""
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]])
        at += 1 + question[at]
    kind = struct.unpack_from("!H", question, at + 1)[0]
    asked = question[12 : at + 5]
    known = b".".join(labels).decode().lower() == NAME
    found = struct.pack("!HHHIH", 0xC00C, A, 1, 60, 4) + socket.inet_aton(ADDRESS) if known and kind == A else b""
    flags = 0x8580 | (0 if known else NO_SUCH_NAME)
    return question[:2] + struct.pack("!HHHHH", flags, 1, 1 if found else 0, 0, 0) + asked + found


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        said = '{"choices":[{"delta":{"content":"By a name: %s."}}]}' % self.headers["Host"]
        self.wfile.write(f"data: {said}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_):
        pass


def answer_all(server):
    while True:
        question, asker = server.recvfrom(512)
        server.sendto(answer(question), asker)


resolv, hosts, *command = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(udp, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", UP))
for ours, theirs in [(resolv, "/etc/resolv.conf"), (hosts, "/etc/hosts")]:
    subprocess.run(["mount", "--bind", ours, theirs], check=True)
udp.bind(("127.0.0.1", 53))
threading.Thread(target=answer_all, args=[udp], daemon=True).start()
model = http.server.ThreadingHTTPServer((ADDRESS, PORT), Model)
threading.Thread(target=model.serve_forever, daemon=True).start()
sys.exit(subprocess.run(command, stdin=subprocess.DEVNULL).returncode)
