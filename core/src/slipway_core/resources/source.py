"""Where rows come from: a URI, and which of its rows, where that is a dataset of the hub."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field

from slipway_core.resources.api import Api, Rule, ShortText, Uri

_ONE_SPLIT = r"[A-Za-z0-9_.]+(\[-?[0-9_]*%?:-?[0-9_]*%?\])?"
SPLIT_PATTERN = rf"^{_ONE_SPLIT}( ?\+ ?{_ONE_SPLIT})*$"
_FILES = r"^hf://datasets/[^/]+/[^/]+/."
_WITH_REVISION = r"^hf://(datasets/)?[^/@]+/[^/@]+@"

Split = Annotated[str, Field(pattern=SPLIT_PATTERN, min_length=1, max_length=253)]


class Source(Api):
    """What the fields of every source of rows have in common."""

    rules: ClassVar = (
        Rule(
            "self.uri.startsWith('hf://') || "
            "!(has(self.config) || has(self.split) || has(self.revision) || (has(self.streaming) && self.streaming))",
            "config, split, revision and streaming are of a dataset of the hub: leave them out beside another uri than "
            "hf://",
            lambda self: (
                self.uri.startswith("hf://") or not (self.config or self.split or self.revision or self.streaming)
            ),
        ),
        Rule(
            f"!self.uri.matches('{_FILES}') || !(has(self.config) || has(self.split))",
            "config and split choose from a whole dataset, and the uri names files of one: leave them out, or end the "
            "uri behind the name of the dataset",
            lambda self: not re.match(_FILES, self.uri) or not (self.config or self.split),
        ),
        Rule(
            f"!self.uri.matches('{_WITH_REVISION}') || !has(self.revision)",
            "the uri has a revision behind its @: leave that or the field revision out",
            lambda self: not re.match(_WITH_REVISION, self.uri) or not self.revision,
            "revision",
        ),
        Rule(
            "!(has(self.streaming) && self.streaming) || !has(self.split) || !self.split.contains('[')",
            "a slice of a split needs all its rows counted, which streaming is there to avoid: leave the slice or "
            "streaming out",
            lambda self: not self.streaming or "[" not in (self.split or ""),
            "split",
        ),
    )

    uri: Uri
    """A file, folder or glob of .jsonl, .json, .csv, .tsv, .txt, .parquet or .arrow, each also with .gz or .zst; or a
    dataset of the hub, hf://datasets/org/name."""
    config: ShortText | None = None
    """Of a dataset of the hub, which of its configurations (subsets). Left out, the only one or its default."""
    split: Split | None = None
    """Of a dataset of the hub: train, train+validation, train[:10%]. Left out, the one called train."""
    revision: ShortText | None = None
    """Of a dataset of the hub: a branch, tag or commit. A branch is resolved to its commit once a run."""
    streaming: bool = False
    """Of a dataset of the hub that is larger than the disk: its files are fetched one at a time, each time that they
    are read, and none is kept."""
