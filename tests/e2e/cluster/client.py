"""The client of the take-over test, as it runs in a pod: requests through the Service, none of them tried twice.

Sends a short request twice a second, on connections that it keeps as any client's pool does, and has one long stream
open all the time. Ends at SIGTERM or after its time, and prints one JSON object: what was asked, what failed, and which
versions answered. Standard library alone: it runs in any image with Python.
"""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

HOST, PORT, SECONDS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
LET_IN_SECONDS = 30
stop = threading.Event()
with open("/tmp/client.pid", "w") as file:
    file.write(str(os.getpid()))
lock = threading.Lock()
asked = {"short": 0, "stream": 0}
failed = []
answers = {}


def headers():
    return {"Content-Type": "application/json"}


def ask(connection, prompt, stream, length):
    body = {"message": prompt, "max_length": length, "temperature": 0, "stream": stream}
    connection.request("POST", "/chat", json.dumps(body), headers())
    response = connection.getresponse()
    text = response.read().decode()
    if response.status != 200:
        raise RuntimeError(f"{response.status} {text[:200]}")
    if stream:
        if "[DONE]" not in text and "finish_reason" not in text:
            raise RuntimeError(f"a stream was cut: {text[-200:]}")
        return None
    return json.loads(text)["response"]


def loop(kind, stream, length, pause):
    connection = http.client.HTTPConnection(HOST, PORT, timeout=120)
    while not stop.is_set():
        begun = time.time()
        try:
            answer = ask(connection, "背诵李白的《夜思》", stream, length)
            with lock:
                asked[kind] += 1
                if answer is not None:
                    seen = answers.setdefault(answer[:40], [begun, begun, 0])
                    seen[1], seen[2] = time.time(), seen[2] + 1
        except Exception as error:
            with lock:
                asked[kind] += 1
                failed.append(f"{time.strftime('%H:%M:%S')} {kind}: {type(error).__name__}: {error}")
            connection.close()
        stop.wait(max(0.0, pause - (time.time() - begun)))


def let_in():
    """Waits until the network lets this pod in: one that enforces policies has to hear of a new pod first."""
    ends = time.time() + LET_IN_SECONDS
    while not stop.is_set() and time.time() < ends:
        try:
            socket.create_connection((HOST, PORT), timeout=2).close()
            return
        except OSError:
            stop.wait(0.2)


signal.signal(signal.SIGTERM, lambda *_: stop.set())
let_in()
threads = [
    threading.Thread(target=loop, args=("short", False, 8, 1.0)),
    threading.Thread(target=loop, args=("short", False, 8, 1.0)),
    threading.Thread(target=loop, args=("stream", True, 60, 0.0)),
]
for thread in threads:
    thread.start()
stop.wait(SECONDS)
stop.set()
for thread in threads:
    thread.join()
print(json.dumps({"asked": asked, "failed": failed, "answers": answers}, ensure_ascii=False), flush=True)
