"""A process that behaves like `slipway-trainer` and learns nothing: for tests of the executor, which are about
processes, signals and files. What it does is in the file that STAND_IN names: {step: [behaviour of each attempt]}.
"""

import hashlib
import http.server
import json
import os
import pathlib
import signal
import sys
import tempfile
import threading
import time

arguments = sys.argv[1:]
option = dict(zip(arguments[1::2], arguments[2::2], strict=True))
step = option.get("--stage", arguments[0])
attempt = int(option["--attempt"])
workspace = pathlib.Path(option["--plan"]).parent
behaviours = json.loads(pathlib.Path(os.environ["STAND_IN"]).read_text()).get(step, ["work"])
behaviour = behaviours[min(attempt, len(behaviours)) - 1]
reached = workspace / f"{step}.reached"


class Progress(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        done = int(reached.read_text()) if reached.exists() else 0
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"step": done, "total": 100}).encode())

    def log_message(self, *_):
        pass


def leave(code, **result):
    document = {"step": step, "attempt": attempt, **result}
    pathlib.Path(os.environ["SLIPWAY_RESULT"]).write_text(json.dumps(document))
    os._exit(code)


def stop(*_):
    if behaviour == "stubborn":
        return
    # It may come while that is written.
    done = int(reached.read_text() or 0) if reached.exists() else 0
    leave(75, progress={"step": done, "total": 100}, error={"kind": "Interrupted", "message": "stopped"})


if behaviour != "early":  # Nothing has been imported yet, and nobody asked for the signal.
    signal.signal(signal.SIGTERM, stop)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SLIPWAY_PROGRESS_PORT"])), Progress)
threading.Thread(target=server.serve_forever, daemon=True).start()
written = workspace / f"{step}-{attempt}.pid.part"
written.write_text(str(os.getpid()))
written.rename(workspace / f"{step}-{attempt}.pid")  # Whole from its first moment: tests wait for it.
pathlib.Path(tempfile.mkdtemp(), "file").write_text("put aside, as libraries do")
print(f"{step} attempt {attempt}: {behaviour}", flush=True)

if "JUDGE_API_KEY" in os.environ:
    (workspace / f"{step}.judge-key").write_text(os.environ["JUDGE_API_KEY"])
if behaviour == "crash":
    os._exit(1)
if behaviour == "bad data":
    leave(2, error={"kind": "BadData", "message": "train.jsonl:3: is not JSON"})
if behaviour in ("forever", "stubborn", "early"):
    while True:
        done = int(reached.read_text()) if reached.exists() else 0
        reached.write_text(str(done + 1))
        time.sleep(0.05)
if step == "publish":
    said = {
        "verdict": json.loads(os.environ["SLIPWAY_JUDGED"])["verdict"],
        "tracking": json.loads(os.environ["SLIPWAY_TRACKING"]),
    }
    (workspace / f"publish-{attempt}.told").write_text(json.dumps(said))
if step == "prepare":
    leave(0, heldOutDigest="sha256:" + hashlib.sha256(b"held out").hexdigest())
if step == "export":
    leave(0, artifact={"uri": f"file://{workspace}/artifact", "digest": "sha256:" + hashlib.sha256(b"x").hexdigest()})
if step == "evaluate":
    # What it was told by the record, and by nothing else.
    told = {
        "artifactDigest": os.environ["SLIPWAY_ARTIFACT_DIGEST"],
        "dataDigest": os.environ["SLIPWAY_HELD_OUT_DIGEST"],
    }
    perplexity = 30.0 if behaviour == "poor" else 10.0
    estimates = [[perplexity, perplexity - 1, perplexity + 1, 1000, 40]]
    evaluation = {"number": attempt, **told, "scoredTokens": 1000, "estimates": estimates}
    evaluation["parityDigest"] = "sha256:" + "e" * 64
    leave(0, metrics={"perplexity": perplexity}, evaluation=evaluation)
leave(0)
