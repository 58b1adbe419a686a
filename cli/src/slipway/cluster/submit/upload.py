"""Sending inputs to the workspace claim: streamed through a short-lived pod, checked there, in place by one rename."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from slipway.cluster.client_settings import ClientSettings
from slipway.cluster.kubectl import AlreadyExists, ClusterError, Kubectl, error_of
from slipway.cluster.pods import helper_pod
from slipway.cluster.pods.helper_pod import HelperPod
from slipway.cluster.submit.inputs import FOLDER, SUMS, Input
from slipway_core.protocol.workspace import WORKSPACE_CLAIM, WORKSPACE_MOUNT
from slipway_core.resources import labels

LIFETIME = 6 * 3600
"""Seconds that an upload may take."""
_LIST = f'cd {WORKSPACE_MOUNT} && for folder; do [ -f "$folder/{SUMS}" ] && echo "$folder"; done; true'
_RECEIVE = f"""\
set -eu
umask 022
cd {WORKSPACE_MOUNT}
mkdir -p {FOLDER}
find {FOLDER} -maxdepth 1 -name '.upload-*' -mmin +1440 -exec rm -rf {{}} +
new=$(mktemp -d {FOLDER}/.upload-XXXXXX)
trap 'rm -rf "$new"' EXIT
tar -xf - -C "$new"
chmod 755 "$new"
(cd "$new" && sha256sum -c {SUMS} >/dev/null)
[ -d "$1" ] || mv -T "$new" "$1" || [ -d "$1" ]
"""
"""Takes an archive on standard input. What an upload left behind that was cut off is removed after a day."""


def ensure_claim(kubectl: Kubectl, settings: ClientSettings) -> None:
    """Makes the workspace claim of the namespace as the operator does, unless it is there."""
    name = WORKSPACE_CLAIM
    if kubectl.run("get", "persistentvolumeclaim", name, "--ignore-not-found", "-o", "name").strip():
        return
    spec: dict[str, object] = {
        "accessModes": list(settings.access_modes),
        "resources": {"requests": {"storage": settings.size}},
    }
    if settings.storage_class is not None:
        spec["storageClassName"] = settings.storage_class
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": {labels.MANAGED_BY: labels.MANAGED_BY_VALUE}},
        "spec": spec,
    }
    with suppress(AlreadyExists):
        kubectl.json("create", "-f", "-", input=manifest)


def send(
    kubectl: Kubectl,
    claim: str,
    inputs: Iterable[Input],
    settings: ClientSettings,
    *,
    say: Callable[[str], None],
    sent: Callable[[Input, int], None],
) -> list[Input]:
    """Sends what is not there yet, and returns it.

    Args:
        say: hears why it takes longer.
        sent: hears of every piece of an input that went out, with its bytes.

    Raises ClusterError when something keeps the data from arriving whole.
    """
    wanted = {one.folder: one for one in inputs}
    pod = HelperPod("upload", claim, writes=FOLDER, lifetime=LIFETIME)
    with helper_pod.running(kubectl, pod, settings, say) as name:
        there = set(_in_pod(kubectl, name, _LIST, *wanted).decode().split())
        missing = [one for folder, one in wanted.items() if folder not in there]
        for one in missing:
            _send(kubectl, name, one, sent)
    return missing


def _in_pod(kubectl: Kubectl, pod: str, script: str, *arguments: str) -> bytes:
    command = ("exec", pod, "--container", helper_pod.CONTAINER, "--", "sh", "-c", script, "sh", *arguments)
    return kubectl.run(*command, timeout="0")


def _send(kubectl: Kubectl, pod: str, one: Input, sent: Callable[[Input, int], None]) -> None:
    receive = ("--", "sh", "-c", _RECEIVE, "sh", one.folder)
    command = ("exec", "--stdin", pod, "--container", helper_pod.CONTAINER, *receive)
    with kubectl.stream(*command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        broken: OSError | None = None
        try:
            write_archive(process.stdin, one, sent)
            process.stdin.close()
        except BrokenPipeError as error:
            broken = error  # What kubectl says of it is on its stderr.
        said = process.stderr.read().decode(errors="replace")
        if process.wait() != 0 or broken is not None:
            raise _failure(one, said, kubectl)


def _failure(one: Input, said: str, kubectl: Kubectl) -> ClusterError:
    if "did NOT match" in said or "FAILED" in said:
        return _changed(one.uri)
    if "No space left" in said:
        fix = "make it larger, or remove old runs and inputs (docs/cli.md)"
        return ClusterError(f"{one.uri}: the workspace claim is full; {fix}")
    lines = [line for line in said.splitlines() if not line.startswith("command terminated")]
    why = " ".join(lines) or str(error_of(said, kubectl))
    return ClusterError(f"{one.uri}: was not sent: {why}; submit again")


def _changed(what: object) -> ClusterError:
    return ClusterError(f"{what}: changed while it was sent; submit again")


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read. Of one that ends too early tar would say no name."""

    def __init__(self, path: Path, inner: IO[bytes], heard: Callable[[int], None]) -> None:
        self._path, self._inner, self._heard = path, inner, heard

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._inner.read(size)
        if len(data) < size:
            raise _changed(self._path)
        self._heard(len(data))
        return data


def write_archive(out: IO[bytes], one: Input, sent: Callable[[Input, int], None]) -> None:
    """Writes an input with its sums as a tar archive, file by file, without a copy of it in memory or on the disk.

    Raises ClusterError when a file is no longer what it was when its digest was taken.
    """
    with tarfile.open(fileobj=out, mode="w|") as tar:
        _add(tar, SUMS, io.BytesIO(sums := one.sums.encode()), len(sums))
        for file in one.files:
            with file.path.open("rb") as content:
                if os.fstat(content.fileno()).st_size != file.size:
                    raise _changed(file.path)
                heard = _Counted(file.path, content, lambda count: sent(one, count))
                _add(tar, file.name, heard, file.size)


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes] | io.RawIOBase, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, content)  # pyright: ignore[reportArgumentType]
