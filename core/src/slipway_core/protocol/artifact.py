"""A model as it is judged and served: a folder with a manifest that names every byte of it.

This is the only module of the contract that reads a folder, and it reads it to hash it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST = "manifest.json"
CARD = "README.md"
"""What people read of a model. No program reads it, so the digest need not cover it: a card can say what became of the
model after it was written. Where a manifest names one it is held against it like any other file."""
WEIGHT_SUFFIXES = (".safetensors",)
# Formats that run code when they are loaded; an artifact with one of them is refused.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")
# What a model is loaded from. Weights in formats that run code when they are loaded are not even fetched.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "README.md")
RESTORE = "Put it back from a copy, or make the model again by a run of another name"
"""What to do where a file of a model is damaged or gone. No command writes the model of a run anew that is over."""
_BLOCK = 1 << 20

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ArtifactError(Exception):
    """The folder is not the artifact that its manifest, or the caller, says it is."""


class FileEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """`manifest.json`. `digest` covers `files` alone, so the same model of the same data has it in every run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    digest: Digest
    files: dict[str, FileEntry]
    run: str
    plan_digest: Digest
    data: dict[str, str] = Field(default_factory=dict)
    """Digest of what each stage learned from, by `<stage>/<split>`."""
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: str
    lineage: dict[str, Any] = Field(default_factory=dict)
    """What the model was made of: the base model and its digest, the versions of the libraries."""


def hash_file(path: Path) -> FileEntry:
    """Returns size in bytes and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return FileEntry(size=size, sha256=digest.hexdigest())


def hash_folder(folder: Path) -> dict[str, FileEntry]:
    """Returns the entry of every file below the folder but the manifest, by POSIX path relative to it.

    Raises ArtifactError for a link, since what it points to may change behind the digest.
    """
    entries: dict[str, FileEntry] = {}
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *(f for f in folders if (Path(root) / f).is_symlink())]):
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise ArtifactError(f"{path}: is a link; an artifact holds its files itself. Copy the file there.")
            if relative != MANIFEST:
                entries[relative] = hash_file(path)
    return dict(sorted(entries.items()))


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """Returns the digest of the whole: SHA-256 over the sorted lines `<sha256>  <size>  <path>`."""
    lines = "".join(f"{entry.sha256}  {entry.size}  {path}\n" for path, entry in sorted(files.items()))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def build(
    folder: Path,
    *,
    run: str,
    plan_digest: str,
    created_at: str,
    data: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Manifest:
    """Returns the manifest of a folder. It is the caller who writes it, last and atomically (`MANIFEST`)."""
    files = hash_folder(folder)
    _refuse_pickles(folder, files)
    return Manifest(
        digest=digest_of(files),
        files=files,
        run=run,
        plan_digest=plan_digest,
        created_at=created_at,
        data=dict(data or {}),
        metrics=dict(metrics or {}),
        lineage=dict(lineage or {}),
    )


def read(folder: Path) -> Manifest:
    """Reads the manifest without hashing a file. Raises ArtifactError when there is none or it is damaged."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        reason = "there is no such folder" if not folder.is_dir() else f"it has no {MANIFEST}"
        raise ArtifactError(
            f"{folder}: not an artifact of Slipway: {reason}. Name the folder that the export stage wrote."
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArtifactError(f"{path}: damaged manifest: {where}: {first['msg']}. {RESTORE}.") from None


def verify(folder: Path, expected_digest: str | None = None) -> Manifest:
    """Hashes every file and returns the manifest when all of it is as it was written. A card that the manifest does not
    name may lie there or not.

    Raises:
        ArtifactError: a file is missing, added or changed; the digest is not the expected one; a file is in a
            format that runs code when it is loaded.
    """
    manifest = read(folder)
    found = hash_folder(folder)
    for path in sorted(manifest.files.keys() | found.keys()):
        wanted, actual = manifest.files.get(path), found.get(path)
        if actual is None:
            raise ArtifactError(f"{folder / path}: the manifest names it and it is missing. {RESTORE}.")
        if wanted is None and path == CARD:
            continue
        if wanted is None:
            raise ArtifactError(f"{folder / path}: not in the manifest. Remove the file.")
        if wanted != actual:
            raise ArtifactError(
                f"{folder / path}: damaged: {actual.size} bytes with sha256 {actual.sha256[:12]}…, "
                f"the manifest says {wanted.size} bytes with {wanted.sha256[:12]}…. {RESTORE}."
            )
    if (computed := digest_of(manifest.files)) != manifest.digest:
        raise ArtifactError(f"{folder / MANIFEST}: its digest {manifest.digest} is not that of its files, {computed}.")
    if expected_digest is not None and manifest.digest != expected_digest:
        raise ArtifactError(f"{folder}: has the digest {manifest.digest}, and {expected_digest} was asked for.")
    _refuse_pickles(folder, found)
    return manifest


def check_name(name: str, *, reserved: str | None = None) -> None:
    """Refuses what a manifest may not name before anything is fetched by it: no file of its folder, or a pickle.

    Args:
        name: as the manifest has it.
        reserved: an entry of the folder that belongs to whoever fetches.

    Raises ArtifactError.
    """
    path = PurePosixPath(name)
    # "." and "" have no parts: they name the folder itself.
    if path.is_absolute() or ".." in path.parts or path.parts[:1] in ((), (reserved,)):
        raise ArtifactError(f"its manifest names {name!r}, which is no file of its folder; this is no artifact")
    if name.endswith(PICKLE_SUFFIXES):
        raise ArtifactError(f"{name}: this format can run code when it is loaded; use safetensors")


def dump(manifest: Manifest) -> str:
    """Returns the text of `manifest.json`."""
    return json.dumps(manifest.model_dump(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _refuse_pickles(folder: Path, files: Mapping[str, FileEntry]) -> None:
    for path in files:
        if path.endswith(PICKLE_SUFFIXES):
            raise ArtifactError(f"{folder / path}: this format can run code when it is loaded; use safetensors.")
    if not any(path.endswith(WEIGHT_SUFFIXES) for path in files):
        raise ArtifactError(f"{folder}: holds no weights (*.safetensors).")
