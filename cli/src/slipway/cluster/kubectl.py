"""Every call to a cluster goes through kubectl: it brings contexts, authentication plugins, logs and port-forwards."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from slipway import exit_codes
from slipway.exit_codes import CliError

BINARY_VARIABLE = "SLIPWAY_KUBECTL"
"""Environment variable: the kubectl to use; the first one on PATH when unset."""
REQUEST_TIMEOUT = "20s"
"""How long one request may take to be answered; a watch and a stream are not bound by it."""
INSTALL = "docs/install.md says how its chart is installed; make deploy does it in the test cluster"


class ClusterError(CliError):
    """The cluster, or kubectl, did not do what it was asked to."""


class NoCluster(ClusterError):
    """There is no kubectl, or no context that it could use."""


class Unreachable(ClusterError):
    """The API server does not answer, or the connection to it broke."""


class Forbidden(ClusterError):
    """This user may not do that."""


class NotFound(ClusterError):
    """There is no such object."""


class NoNamespace(ClusterError):
    """The namespace does not exist."""


class AlreadyExists(ClusterError):
    """There is such an object already."""


class NotInstalled(ClusterError):
    """The cluster does not know Slipway's resources."""


class Refused(ClusterError):
    """The API server found the object invalid."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_codes.BAD_INPUT)


@dataclass(frozen=True)
class Kubectl:
    """kubectl with its context and namespace. Its methods raise ClusterError."""

    binary: str
    context: str
    namespace: str
    everywhere: bool = False
    """Lists go over all namespaces."""
    named: bool = False
    """Whether the context was asked for; else it is the current one, which a hint need not name."""

    @property
    def options(self) -> str:
        """What leads a command of ours here."""
        return f"-n {self.namespace}" + (f" --context {self.context}" if self.named else "")

    @property
    def title(self) -> str:
        where = "all namespaces" if self.everywhere else f"namespace {self.namespace}"
        return f"{where} of context {self.context}"

    def in_namespace(self, namespace: str) -> Kubectl:
        return replace(self, namespace=namespace, everywhere=False)

    def command(self, *arguments: str) -> list[str]:
        """Returns the whole command line; arguments of `exec` may follow a `--`."""
        scope = ["--all-namespaces"] if self.everywhere else ["--namespace", self.namespace]
        return [self.binary, "--context", self.context, arguments[0], *scope, *arguments[1:]]

    def run(self, *arguments: str, input: bytes | None = None, timeout: str = REQUEST_TIMEOUT) -> bytes:
        """Returns what kubectl prints. `timeout` is that of one request; 0 is none."""
        # An option after `--` would go to the command of an exec.
        command = self.command(arguments[0], "--request-timeout", timeout, *arguments[1:])
        done = subprocess.run(command, input=input, capture_output=True, check=False)
        if done.returncode != 0:
            raise error_of(done.stderr.decode(errors="replace"), self)
        return done.stdout

    def json(self, *arguments: str, input: Any = None) -> Any:
        """Returns the document that kubectl prints. `input` is given to it as JSON."""
        data = None if input is None else json.dumps(input).encode()
        return json.loads(self.run(*arguments, "-o", "json", input=data))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.json("get", kind, name)

    def list(self, kind: str, *, labels: Mapping[str, str] | None = None, fields: str = "") -> list[dict[str, Any]]:
        """Returns those that have all the labels, and which the field selector chooses."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        chosen = [*(["--selector", selector] if selector else []), *(["--field-selector", fields] if fields else [])]
        return self.json("get", kind, *chosen)["items"]

    def watch(self, kind: str, name: str, *, silence: float | None = None) -> Iterator[dict[str, Any]]:
        """Yields the object as it is, and again whenever it changes, until the server closes the watch.

        Args:
            silence: seconds without a change after which the object is yielded as it was.

        Raises NotFound when it is not there or is deleted.
        """
        arguments = ("get", kind, name, "--watch", "--output-watch-events", "-o", "json")
        last: dict[str, Any] | None = None
        with self.stream(*arguments) as process:
            assert process.stdout is not None
            for line in _lines(process.stdout, silence):
                if line is None:
                    if last is not None:
                        yield last
                    continue
                event = json.loads(line)
                if event["type"] == "DELETED":
                    raise NotFound(f"{kind.partition('.')[0]} {name} was deleted", exit_codes.FAILED)
                if event["type"] != "ERROR":
                    last = event["object"]
                    yield event["object"]
            check(process, self)

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Merges a change into an object; None removes a field."""
        return self.json("patch", kind, name, "--type", "merge", "--patch", json.dumps(change))

    @contextmanager
    def stream(self, *arguments: str, stdin: int | None = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """Starts kubectl with pipes and ends it afterwards, however its user leaves."""
        process = subprocess.Popen(
            self.command(*arguments),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C is for us: we end what we started, in our order.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                _close(pipe)


def _lines(pipe: IO[bytes], silence: float | None) -> Iterator[bytes | None]:
    """Yields the lines of a pipe as they come, and None after so many seconds without one."""
    half = b""
    while True:
        if not select.select([pipe], [], [], silence)[0]:
            yield None
            continue
        # Past the buffer of the pipe: select does not see what lies in there.
        chunk = os.read(pipe.fileno(), 65536)
        if not chunk:
            return
        *lines, half = (half + chunk).split(b"\n")
        yield from lines


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        try:
            pipe.close()
        except OSError:
            return  # What was not flushed had no reader any more.


def check(process: subprocess.Popen[bytes], kubectl: Kubectl) -> None:
    """Waits for a stream's end. Raises ClusterError when kubectl failed."""
    assert process.stderr is not None
    said = process.stderr.read().decode(errors="replace")
    if process.wait() != 0:
        raise error_of(said, kubectl)


def find_binary() -> str:
    """Returns the path of kubectl. Raises NoCluster when there is none."""
    name = os.environ.get(BINARY_VARIABLE) or "kubectl"
    found = shutil.which(name)
    if found is None:
        where = f"{BINARY_VARIABLE}={name} is no command" if BINARY_VARIABLE in os.environ else "it is not on PATH"
        raise NoCluster(f"a cluster is reached through kubectl, and {where}; install it, or work here with --local")
    return found


def connect(context: str | None = None, namespace: str | None = None) -> Kubectl:
    """Returns kubectl for a context and a namespace, those of the kubeconfig when they are left out.

    Asks no server. Raises NoCluster when there is no kubectl, no kubeconfig, or no such context.
    """
    binary = find_binary()
    chosen = ["--context", context] if context else []
    command = [binary, *chosen, "config", "view", "--minify", "-o", "json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise _no_context(binary, context, done.stderr.decode(errors="replace"))
    config = json.loads(done.stdout)
    current = context or config.get("current-context")
    if not current:
        raise _no_context(binary, context, "")
    entries: Sequence[Any] = config.get("contexts") or ()
    own = next((entry["context"].get("namespace") for entry in entries if entry["name"] == current), None)
    return Kubectl(binary, current, namespace or own or "default", named=bool(context))


def _no_context(binary: str, context: str | None, said: str) -> NoCluster:
    command = [binary, "config", "get-contexts", "-o", "name"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    known = ", ".join(done.stdout.decode().split()) or "none"
    if known == "none" and (absent := _no_kubeconfig()):
        return NoCluster(f"{absent}; set KUBECONFIG to the file of a cluster, or work here with --local")
    if context is None:
        reason = said.strip() if said and "current-context" not in said else "no kube context is chosen"
        return NoCluster(
            f"{reason}; choose one with --context or `kubectl config use-context NAME` (contexts: {known})"
        )
    return NoCluster(
        f"--context {context}: the kubeconfig has no such context; contexts: {known}", exit_codes.BAD_INPUT
    )


def _no_kubeconfig() -> str | None:
    """Says that there is no kubeconfig where kubectl looks for one; None where there is."""
    files = [Path(file) for file in os.environ.get("KUBECONFIG", "").split(os.pathsep) if file]
    if any(file.exists() for file in files or [Path.home() / ".kube" / "config"]):
        return None
    if not files:
        return "KUBECONFIG is not set and ~/.kube/config does not exist"
    names = ", ".join(map(str, files))
    return f"KUBECONFIG names {names}, which {'does' if len(files) == 1 else 'do'} not exist"


_UNREACHABLE = re.compile(
    r"connect(ion)? (to the server|refused|reset|timed out)|was refused|no such host|i/o timeout|no route to host|"
    r"deadline exceeded|TLS handshake|network is unreachable|Client\.Timeout|unexpected EOF|lost connection|"
    r"x509: |certificate signed by unknown",
    re.IGNORECASE,
)
_BESIDE = re.compile(r"[EIWF]\d{4} |Warning: ")
"""Log lines of kubectl's own libraries, and warnings."""
_UNKNOWN_KIND = re.compile(
    r"doesn't have a resource type \"(trainingruns|modelendpoints)|no matches for kind .*slipway\.dev|"
    r"could not find the requested resource"
)


def error_of(said: str, kubectl: Kubectl) -> ClusterError:
    """Returns what kubectl's words on stderr mean."""
    lines = [line for line in said.strip().splitlines() if not _BESIDE.match(line)]
    text = " ".join(lines) if lines else said.strip()
    text = re.sub(r"^(error: )?(Error from server( \(\w+\))?: )?", "", text) or "kubectl failed and gave no reason"
    if _UNKNOWN_KIND.search(said):
        return NotInstalled(f"Slipway is not installed in the cluster of context {kubectl.context}: {INSTALL}")
    if re.search(r'namespaces? "[^"]+" not found', said):
        return NoNamespace(
            f"{text}; make it with `kubectl create namespace`, or choose another with -n", exit_codes.BAD_INPUT
        )
    if "(NotFound)" in said:
        return NotFound(text, exit_codes.BAD_INPUT)
    if "(AlreadyExists)" in said:
        return AlreadyExists(text)
    if "(Forbidden)" in said or "forbidden: " in said:
        if "violates PodSecurity" in said or "exceeded quota" in said:
            return Forbidden(text)
        return Forbidden(f"{text}; ask whoever runs the cluster for that right, or choose another namespace with -n")
    if "(Unauthorized)" in said or "must be logged in" in said or "Unauthorized" in said:
        return Forbidden(f"context {kubectl.context}: the cluster does not know this user; log in again ({text})")
    if "(Invalid)" in said or "(BadRequest)" in said or " is invalid: " in said:
        return Refused(text)
    if _UNREACHABLE.search(said):
        return Unreachable(
            f"the cluster of context {kubectl.context} cannot be reached: {text}; "
            "start it, choose another with --context, or work here with --local"
        )
    return ClusterError(text)
