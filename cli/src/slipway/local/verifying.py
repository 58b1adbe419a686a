"""Whether a model is the one that was judged, byte for byte, and who says that it passed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.exit_codes import BAD_INPUT, FAILED, BadInput, CliError
from slipway.local import processes
from slipway.local.state import FOLDER, State
from slipway.local.statements import Statements, at_its_file, read_keys
from slipway.records.verification import Finding
from slipway_core.protocol import artifact, trust
from slipway_core.protocol.artifact import ArtifactError
from slipway_core.protocol.trust import Flaw, Standing, TrustedKey, TrustError
from slipway_core.resources import uris

_FETCH = (sys.executable, "-P", "-c", "from slipway_fetching.command import app; app()")


@dataclass(frozen=True)
class Asked:
    """What is to be verified, and by what."""

    what: str
    """A run, an endpoint, a folder or a URI."""
    keys: Sequence[Path] = ()
    """Files of trusted keys; those of the state folder where there is none."""
    statements: Sequence[Path] = ()
    """Files of statements; those of the state folder where there is none."""


@dataclass(frozen=True)
class _Model:
    folder: Path
    statements: State
    """Whose statements are looked at where none are named."""
    digest: str | None = None
    """That it must have; None takes what the manifest says."""


def verify(asked: Asked, state: State) -> Finding:
    """Hashes a model and looks for the statement about it.

    Raises BadInput for what is not there, or no model of this machine, and StateError for keys that cannot be read.
    """
    with _model(asked.what, state) as model:
        given = given_keys(asked)
        keys = Statements(state).trusted() if given is None else given
        begun = time.monotonic()
        try:
            manifest = artifact.verify(model.folder, model.digest)
        except ArtifactError as error:
            return Finding(asked.what, model.digest, problem=str(error))
        took = time.monotonic() - begun
        files = asked.statements or sorted(model.statements.statements(manifest.digest).glob("*.json"))
        texts = _texts(files)
        return Finding(
            asked.what,
            manifest.digest,
            len(manifest.files),
            sum(entry.size for entry in manifest.files.values()),
            took,
            len(texts),
            at_its_file(_standing(asked, texts, manifest.digest, keys, state, model.statements), files),
        )


def _standing(
    asked: Asked, texts: Sequence[str], digest: str, keys: Sequence[TrustedKey], state: State, other: State
) -> Standing:
    found = trust.standing(texts, digest, keys)
    if found.flaw is Flaw.UNTRUSTED_KEY and not asked.keys and other.root != state.root:
        # Whoever gives away a model can lay keys beside it that say what they like.
        told = (
            f"{found.why}. Keys that lie beside a model prove nothing: if those in {other.trusted_keys} are "
            f"yours, name them with --key, or their folder with --workdir {other.root.parent}"
        )
        return replace(found, why=told)
    if texts or found.newest is not None:
        return found
    why = f"{found.why} in {other.all_statements}; name its file with --statement, or have a run judge the model"
    return Standing(why=why)


def given_keys(asked: Asked) -> tuple[TrustedKey, ...] | None:
    """Returns the keys of the files that are named; None where none is. Raises BadInput, and StateError."""
    if not asked.keys:
        return None
    try:
        return trust.distinct(key for path in asked.keys for key in read_keys(path))
    except TrustError as error:
        raise BadInput(f"--key: {error}") from None


def given_statements(asked: Asked) -> list[str] | None:
    """Returns the statements of the files that are named; None where none is. Raises BadInput."""
    return _texts(asked.statements) if asked.statements else None


def _texts(files: Sequence[Path]) -> list[str]:
    try:
        return [path.read_text(encoding="utf-8", errors="replace") for path in files]
    except OSError as error:
        raise BadInput(f"--statement {error.filename}: cannot be read: {error.strerror}") from None


@contextmanager
def _model(what: str, state: State) -> Iterator[_Model]:
    """Yields where the bytes of a model are; one that was fetched is gone afterwards."""
    if "://" in what:
        uri = uris.parse(what)
        if uri.remote:
            with tempfile.TemporaryDirectory(prefix="slipway-verify-", ignore_cleanup_errors=True) as folder:
                _fetch(what, Path(folder))
                yield _Model(Path(folder), state)
            return
        if uri.scheme not in ("file", "run"):
            raise BadInput(
                f"{what}: is not within reach of this machine; name a folder, or s3://, gs:// or hf://, or add "
                "--cluster for pvc://"
            )
        what = uri.authority if uri.scheme == "run" else uri.path
    found = _named(what, state)
    if found is None and Path(what).is_dir():
        found = _Model(Path(what), _state_around(Path(what)) or state)
    if found is None:
        names = [folder.name for folder in state.runs()] + [f"endpoint/{folder.name}" for folder in state.endpoints()]
        raise BadInput(
            f"{what}: is no run or endpoint in {state.root}, no folder and no URI; there are: "
            f"{', '.join(names) or 'none'}. What is on a cluster is named with --cluster, -n or --context"
        )
    yield found


def _named(what: str, state: State) -> _Model | None:
    bare = what.removeprefix("endpoint/")
    if bare == what and "/" not in what and state.run(what).exists():
        folder = state.run(what)
        made = folder.status().artifact
        if made is None:
            raise BadInput(f"{what}: that run is {folder.status().phase.value} and has no model yet")
        return _Model(folder.workspace().artifact, state, made.digest)
    if "/" not in bare and state.endpoint(bare).exists():
        live = state.endpoint(bare).status().live
        if live is None:
            raise BadInput(f"{what}: that endpoint has no live version")
        return _Model(Path(uris.parse(live.uri).path), state, live.digest)
    return None


def _state_around(folder: Path) -> State | None:
    """Returns the state folder that a model lies in, which has the statements about it."""
    around = next((parent for parent in folder.resolve().parents if parent.name == FOLDER), None)
    return State(around) if around is not None else None


def _fetch(uri: str, folder: Path) -> None:
    """Brings a model by the trainer's and the servers' own way; what it says goes to standard error."""
    command = [*_FETCH, "--uri", uri, "--to", str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=processes.die_with_parent()
    )
    if code := process.wait():
        message = f"{uri}: cannot be fetched; the reason stands above"
        raise CliError(message, BAD_INPUT if code == BAD_INPUT else FAILED)
