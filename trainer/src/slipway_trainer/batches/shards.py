"""Prepared data on disk: memory-mapped tokens that are found damaged before they are learned from.

```
<folder>/tokens.bin    uint16 or uint32, documents one after the other
         learn.bin     uint8 a token, 1 where it is a target; absent when all tokens are
         offsets.npy   int64 [documents + 1]
         weights.npy   float32 [documents]
         chosen.npy    int64 [documents], of pairs of answers alone: tokens of the chosen one, which stands first
         mixture.json  shares of the sources; absent where documents have weights
         shard.json    size and SHA-256 of each file and the digest of the whole, written last
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import FileEntry
from slipway_host.files import replace_folder, sync_tree, write_atomically
from slipway_trainer.batches.mixture import Mixture, SourceShare
from slipway_trainer.step.errors import BadModel, DamagedShard

INDEX, MIXTURE = "shard.json", "mixture.json"
VERSION = 1
CHOSEN = "chosen.npy"
Text = tuple[np.ndarray, np.ndarray]
"""Tokens, and of each whether it is a target (bool)."""


@dataclass(frozen=True)
class Shards:
    """The documents of one split of a stage. A document is at most the stage's maxLength tokens; of preferences it is a
    pair of texts, so that all that orders and packs documents keeps the two together."""

    folder: Path
    digest: str
    """Of all files; the same data, tokenizer and settings give the same one."""
    offsets: np.ndarray
    weights: np.ndarray
    """float32 [documents]: how often an epoch sees each document."""
    lengths: np.ndarray
    """int32 [documents]."""
    tokens: np.ndarray
    """Memory-mapped."""
    learn: np.ndarray | None
    """Memory-mapped; None when every token is a target."""
    mixture: Mixture | None = None
    """The shares of the sources; None where documents have weights."""
    chosen: np.ndarray | None = None
    """int64 [documents], tokens of the chosen text of each pair; None where a document is one text."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens a folder after hashing all of it. Raises DamagedShard when a byte of it is not as it was written."""
        index = _verified(folder)
        offsets = np.load(folder / "offsets.npy")
        learn = folder / "learn.bin"
        return cls(
            folder=folder,
            digest=index["digest"],
            offsets=offsets,
            weights=np.load(folder / "weights.npy"),
            lengths=np.diff(offsets).astype(np.int32),
            tokens=_mapped(folder / "tokens.bin", index["dtype"]),
            learn=_mapped(learn, "uint8") if learn.exists() else None,
            mixture=_mixture(folder / MIXTURE),
            chosen=np.load(folder / CHOSEN) if (folder / CHOSEN).exists() else None,
        )

    @property
    def n_documents(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        return len(self.tokens)

    def texts(self, index: int) -> list[Text]:
        """Returns the texts of a document: one, or the chosen and the rejected one of a pair."""
        tokens, learn = self.document(index)
        if self.chosen is None:
            return [(tokens, learn)]
        end = int(self.chosen[index])
        return [(tokens[:end], learn[:end]), (tokens[end:], learn[end:])]

    def document(self, index: int) -> Text:
        """Returns the tokens of a document and, for each, whether it is a target (bool)."""
        place = slice(self.offsets[index], self.offsets[index + 1])
        tokens = self.tokens[place]
        learn = np.ones(len(tokens), bool) if self.learn is None else self.learn[place].astype(bool)
        return tokens, learn


class ShardWriter:
    """Writes a folder that appears in full, under its name, when `finish` returns, and never before.

    Args:
        folder: where it will be; what is there is replaced.
        ids: how many there are, up to the largest; decides between uint16 and uint32.
        masked: whether tokens come with a learn mask.
    """

    def __init__(self, folder: Path, *, ids: int, masked: bool, attempt: int) -> None:
        self.folder = folder
        self.ids = ids
        self.dtype = np.dtype(np.uint16 if ids <= 1 << 16 else np.uint32)
        self.masked = masked
        self.temporary = folder.with_name(f".{folder.name}.tmp-{attempt}")
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        self._tokens = (self.temporary / "tokens.bin").open("wb")
        self._learn = (self.temporary / "learn.bin").open("wb") if masked else None
        self._lengths: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._chosen: list[np.ndarray] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        for file in self._files():
            file.close()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def add(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        weight: float,
        learn: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
    ) -> None:
        """Appends documents: their tokens one after the other, the length of each, what is learned (bool), and of pairs
        the length of the chosen text.

        Raises BadModel for an id that there is not: cast to a smaller type, it would be another token.
        """
        if (learn is not None) != self.masked:
            raise ValueError("a masked shard needs a mask with every document, another one takes none")
        if len(tokens) and (largest := int(tokens.max())) >= self.ids:
            raise BadModel(
                f"the tokenizer writes the id {largest}, and the largest of its vocabulary is {self.ids - 1}. "
                "Take it out of the post_processor of tokenizer.json, or give it a token"
            )
        self._tokens.write(np.ascontiguousarray(tokens, self.dtype).tobytes())
        if self._learn is not None:
            self._learn.write(np.ascontiguousarray(learn, np.uint8).tobytes())
        self._lengths.append(np.asarray(lengths, np.int64))
        self._weights.append(np.full(len(lengths), weight, np.float32))
        if chosen is not None:
            self._chosen.append(np.asarray(chosen, np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """int64 [documents], of those that were added."""
        return np.concatenate([np.zeros(0, np.int64), *self._lengths])

    def mix(self, mixture: Mixture) -> None:
        """Gives the sources shares, in the order in which their documents were added."""
        (self.temporary / MIXTURE).write_text(json.dumps(asdict(mixture)) + "\n", encoding="utf-8")

    def finish(self, before_rename: Callable[[], None] = lambda: None) -> str:
        """Puts the folder in its place and returns its digest; `before_rename` may still refuse by raising."""
        lengths = self.lengths
        np.save(self.temporary / "offsets.npy", np.cumsum(np.append(0, lengths)))
        np.save(self.temporary / "weights.npy", np.concatenate([np.zeros(0, np.float32), *self._weights]))
        if self._chosen:
            np.save(self.temporary / CHOSEN, np.concatenate(self._chosen))
        for file in self._files():
            file.close()
        files = {path.name: artifact.hash_file(path) for path in sorted(self.temporary.iterdir())}
        digest = artifact.digest_of(files)
        index = {
            "version": VERSION,
            "digest": digest,
            "dtype": self.dtype.name,
            "documents": len(lengths),
            "files": {name: entry.model_dump() for name, entry in files.items()},
        }
        sync_tree(self.temporary)
        write_atomically(self.temporary / INDEX, json.dumps(index, indent=2) + "\n")
        before_rename()
        replace_folder(self.temporary, self.folder)
        return digest

    def _files(self) -> list[IO[bytes]]:
        return [self._tokens, *([self._learn] if self._learn else [])]


def _mixture(path: Path) -> Mixture | None:
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return Mixture(
        sources=tuple(SourceShare(**source) for source in found["sources"]),
        windows=tuple((rows, tokens) for rows, tokens in found["windows"]),
    )


def _verified(folder: Path) -> dict:
    advice = "Start the run again: its data is then prepared anew."
    try:
        index = json.loads((folder / INDEX).read_text())
        wanted = {name: FileEntry.model_validate(entry) for name, entry in index["files"].items()}
        known = (index["version"], index["digest"], index["dtype"])
    except FileNotFoundError:
        raise DamagedShard(f"{folder / INDEX}: there is no such file. {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedShard(f"{folder / INDEX}: cannot be read: {error}. {advice}") from None
    if known[0] != VERSION:
        raise DamagedShard(f"{folder / INDEX}: has version {known[0]}, and {VERSION} is needed. {advice}")
    for name, entry in wanted.items():
        try:
            found = artifact.hash_file(folder / name)
        except OSError as error:
            raise DamagedShard(f"{folder / name}: cannot be read: {error.strerror}. {advice}") from None
        if found != entry:
            raise DamagedShard(
                f"{folder / name}: damaged: {found.size} bytes with sha256 {found.sha256[:12]}…, "
                f"prepare wrote {entry.size} bytes with {entry.sha256[:12]}…. {advice}"
            )
    if artifact.digest_of(wanted) != known[1]:
        raise DamagedShard(f"{folder / INDEX}: its digest is not that of its files. {advice}")
    return index


def _mapped(path: Path, dtype: str) -> np.ndarray:
    # An empty file cannot be mapped.
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")
