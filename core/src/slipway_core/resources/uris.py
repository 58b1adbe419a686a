"""The URIs that name models and data.

| form | names |
|---|---|
| `hf://org/name[@revision]` | a repository of the Hugging Face hub: a model, or a dataset where data is named |
| `hf://datasets/org/name[@revision][/path]` | a dataset of the hub, or a file, folder or glob in it |
| `s3://bucket/path`, `gs://bucket/path` | an object, a prefix or a glob in an object store |
| `pvc://claim/path` | a path on a PersistentVolumeClaim of the namespace |
| `file://path` | a local path, relative to the YAML file unless it starts with `/` |
| `package://name` | sample data that ships with the trainer |
| `run://name` | the artifact of another run of the same namespace |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, cast

Scheme = Literal["hf", "s3", "gs", "pvc", "file", "package", "run"]
SCHEMES: tuple[str, ...] = ("hf", "s3", "gs", "pvc", "file", "package", "run")


class UriError(ValueError):
    """The text is not a URI of this grammar."""


@dataclass(frozen=True)
class Uri:
    scheme: Scheme
    authority: str
    """Bucket, claim, hub organisation, package or run name; empty for `file`."""
    path: str
    """The rest, without a leading slash but for an absolute `file` path."""
    revision: str | None = None
    """Branch, tag or commit; `hf` alone has one."""
    dataset: bool = False
    """Whether a hub URI can name nothing but a dataset."""
    inside: str = ""
    """Of a dataset of the hub, a file, folder or glob in it; empty for all of it."""

    def __str__(self) -> str:
        tail = f"@{self.revision}" if self.revision else ""
        middle = f"{self.authority}/{self.path}" if self.authority and self.path else self.authority or self.path
        dataset, inside = ("datasets/" if self.dataset else ""), (f"/{self.inside}" if self.inside else "")
        return f"{self.scheme}://{dataset}{middle}{tail}{inside}"

    @property
    def remote(self) -> bool:
        """Whether it lies in an object store or on the hub, where a Secret may be asked for."""
        return self.scheme in ("hf", "s3", "gs")

    @property
    def repository(self) -> str:
        """`org/name` of a hub URI."""
        return f"{self.authority}/{self.path}"


_DATASETS = "datasets/"
_DATASET = (
    # A revision with a slash would be taken for one with a path: the pull requests and conversions of the hub alone.
    r"^(?P<authority>[\w.-]+)/(?P<path>[\w.-]+)(@(?P<revision>refs/(pr|convert)/[\w.-]+|[\w.-]+))?(/(?P<inside>.+))?$",
    "hf://datasets/org/name, hf://datasets/org/name@revision or hf://datasets/org/name/path/*.jsonl",
)
_SHAPES = {
    "hf": (r"^(?P<authority>[\w.-]+)/(?P<path>[\w.-]+)(@(?P<revision>[\w./-]+))?$", "hf://org/name or hf://org/name@revision"),
    "s3": (r"^(?P<authority>[\w.-]+)/(?P<path>.+)$", "s3://bucket/path"),
    "gs": (r"^(?P<authority>[\w.-]+)/(?P<path>.+)$", "gs://bucket/path"),
    "pvc": (r"^(?P<authority>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)/(?P<path>.+)$", "pvc://claim/path"),
    "file": (r"^(?P<authority>)(?P<path>.+)$", "file://path/to/file.jsonl"),
    "package": (r"^(?P<authority>[\w.-]+)(?P<path>)$", "package://name"),
    "run": (r"^(?P<authority>[a-z0-9]([-a-z0-9]*[a-z0-9])?)(?P<path>)$", "run://name-of-the-run"),
}  # fmt: skip


def parse(text: str) -> Uri:
    """Parses a URI. Raises UriError that shows the right form."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SHAPES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        hub = f"hf://{text} or " if re.fullmatch(r"[\w-]+/[\w-]+", text) else ""
        hint = f" Did you mean {hub}file://{text}?" if not separator else ""
        raise UriError(f"{text!r} does not start with one of {known}.{hint}")
    dataset = scheme == "hf" and rest.startswith(_DATASETS)
    shape, example = _DATASET if dataset else _SHAPES[scheme]
    found = re.match(shape, rest.removeprefix(_DATASETS) if dataset else rest)
    if not found:
        raise UriError(f"{text!r} is not of the form {example}")
    groups = found.groupdict()
    inside = groups.get("inside") or ""
    if scheme in ("hf", "s3", "gs", "pvc") and ".." in PurePosixPath(groups["path"], inside).parts:
        holder = {"hf": "dataset", "pvc": "claim"}.get(scheme, "bucket")
        raise UriError(f"{text!r} leaves its {holder} by '..'")
    revision = groups.get("revision")
    return Uri(cast(Scheme, scheme), groups["authority"], groups["path"], revision, dataset, inside)


def anchor(uri: Uri, folder: str) -> Uri:
    """Returns a relative `file` URI as an absolute one below `folder`, and any other URI as it is."""
    if uri.scheme != "file" or uri.path.startswith("/"):
        return uri
    parts: list[str] = []
    for part in PurePosixPath(folder, uri.path).parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part not in ("..", "."):
            parts.append(part)
    return replace(uri, path=str(PurePosixPath(*parts)))
