"""A kubectl whose cluster is a folder: pods run at once, and what is executed in one runs here, in its own workspace.

`$KUBECTL_STATE/workspace` is the claim; `objects.json` what was created and not deleted; `calls.jsonl` every call.
`refuse.json` maps the first words of a call to what kubectl says on stderr when it fails. A pod logs what `log` says;
without that file it logs without an end.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

STATE = Path(os.environ["KUBECTL_STATE"])
VALUED = ("--context", "--namespace", "--request-timeout", "-o", "--selector", "--field-selector", "--field-manager")
"""Options of every call that have a value."""
CONFIG = {"current-context": "test", "contexts": [{"name": "test", "context": {"namespace": "team"}}]}


def main(arguments):
    words = stripped(arguments)
    with (STATE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    refusals = json.loads((STATE / "refuse.json").read_text()) if (STATE / "refuse.json").exists() else {}
    for start, said in refusals.items():
        if " ".join(words).startswith(start):
            sys.exit(said)
    match words:
        case ["config", "view", *_]:
            print(json.dumps(CONFIG))
        case ["create" | "apply", *options]:
            create(json.load(sys.stdin), dry="--dry-run=server" in options, again=words[0] == "apply")
        case ["get", kind]:
            selectors = option(arguments, "--selector"), option(arguments, "--field-selector")
            print(json.dumps({"items": listed(kind, *selectors)}))
        case ["get", kind, name, *options] if "--watch" in options:
            watch(kind, name)
        case ["get", kind, name, *options]:
            get(kind, name, options)
        case ["patch", kind, name, *_]:
            patch(kind, name, json.loads(option(arguments, "--patch")))
        case ["auth", "whoami", *_]:
            print(json.dumps({"kind": "SelfSubjectReview", "status": {"userInfo": {"username": "ada"}}}))
        case ["logs", *_]:
            talk()
        case ["port-forward", _, ports, *_]:
            forward(int(ports.partition(":")[0]), int((STATE / "pod_port").read_text()))
        case ["delete", *_] if (STATE / "kept").exists():
            pass
        case ["delete", kind, name, *_]:
            save({key: value for key, value in load().items() if key != f"{bare(kind)}/{name}"})
        case ["exec", *_]:
            execute(arguments[arguments.index("--") + 1 :])
        case _:
            sys.exit(f"error: no stand-in for {words}")


def stripped(arguments):
    """The command and its arguments, without what every call has."""
    words, rest = [], iter(arguments)
    for word in rest:
        if word in VALUED:
            next(rest)
        elif word != "--all-namespaces":
            words.append(word)
    return words


def option(arguments, name):
    return arguments[arguments.index(name) + 1] if name in arguments else ""


def bare(kind):
    """`trainingruns.slipway.dev` and `pods` as the objects are kept: `trainingrun`, `pod`."""
    return kind.partition(".")[0].removesuffix("s").lower()


def listed(kind, selector, fields):
    wanted = dict(part.split("=") for part in selector.split(",") if part)
    return [
        found
        for key, found in load().items()
        if key.startswith(f"{bare(kind)}/")
        and wanted.items() <= found.get("metadata", {}).get("labels", {}).items()
        and all(chosen(found, part) for part in fields.split(",") if part)
    ]


def chosen(found, part):
    """Whether `status.phase!=Failed`, or `type=Warning`, is so of it."""
    path, _, value = part.partition("=")
    for name in path.removesuffix("!").split("."):
        found = found.get(name, {})
    return (found == value) is not path.endswith("!")


def talk():
    if (STATE / "log").exists():
        print((STATE / "log").read_text())
        return
    for number in range(10_000):
        print(f"2026-01-02T03:04:05.{number:09}Z line {number}", flush=True)
        time.sleep(0.01)


def load():
    path = STATE / "objects.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(objects):
    (STATE / "objects.json").write_text(json.dumps(objects))


def create(manifest, *, dry, again):
    metadata = manifest["metadata"]
    metadata["name"] = metadata.get("name") or metadata["generateName"] + "abcde"
    key = f"{manifest['kind'].lower()}/{metadata['name']}"
    old = load().get(key) if again else None
    metadata.update({"uid": f"uid-of-{metadata['name']}", "generation": 1})
    if old is not None:
        manifest = merged(old, manifest)
    if manifest["kind"] == "Pod":
        manifest["status"] = {"phase": os.environ.get("KUBECTL_NEW_POD", "Running")}
    if not dry:
        save({**load(), key: manifest})
    print(json.dumps(manifest))


def merged(old, new):
    """What an apply leaves of an object: the fields that others set, and another generation when the spec changed."""
    spec = {**old["spec"], **new["spec"]}
    kept = {name: old["metadata"][name] for name in ("uid", "generation")}
    metadata = {**old["metadata"], **new["metadata"], **kept}
    metadata["generation"] += spec != old["spec"]
    return {**old, **new, "spec": spec, "metadata": metadata}


def get(kind, name, options):
    found = load().get(f"{bare(kind)}/{name}")
    if found is None and "--ignore-not-found" not in options:
        sys.exit(f'Error from server (NotFound): {kind} "{name}" not found')
    if found is not None:
        print(json.dumps(found))


def patch(kind, name, change):
    found = patched(load()[f"{bare(kind)}/{name}"], change)
    save({**load(), f"{bare(kind)}/{name}": found})
    print(json.dumps(found))


def patched(old, change):
    """A merge patch (RFC 7396): what is null goes."""
    if not isinstance(change, dict):
        return change
    old = old if isinstance(old, dict) else {}
    new = {name: patched(old.get(name), value) for name, value in change.items() if value is not None}
    return {name: value for name, value in old.items() if name not in change} | new


def watch(kind, name):
    """Tells of the object whenever it is another than it was, until somebody ends it."""
    told = None
    while True:
        found = load().get(f"{bare(kind)}/{name}")
        if found is None:
            sys.exit(f'Error from server (NotFound): {kind} "{name}" not found')
        if found != told:
            print(json.dumps({"type": "MODIFIED" if told else "ADDED", "object": found}), flush=True)
            told = found
        time.sleep(0.05)


def forward(port, to):
    """Relays every connection to the server that stands for the pod."""
    with socket.create_server(("127.0.0.1", port)) as server:
        (STATE / "forward.pid").write_text(str(os.getpid()))
        print(f"Forwarding from 127.0.0.1:{port} -> {to}", flush=True)
        while True:
            connection, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", to))
            for source, sink in ((connection, upstream), (upstream, connection)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def execute(command):
    """Runs it with the folder in the place of the claim."""
    here = [word.replace("/workspace", str(STATE / "workspace")) for word in command]
    sys.exit(subprocess.run(here, check=False).returncode)


main(sys.argv[1:])
