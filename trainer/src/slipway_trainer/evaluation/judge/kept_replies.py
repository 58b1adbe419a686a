"""What a judge has said, kept in the workspace: an evaluation that was killed goes on without paying again.

Whoever can write in the workspace could write verdicts there. So each line has a MAC by a key that is made of the
judge's, which only the step has: what another hand wrote is asked again. A judge without a key has no such secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from slipway_trainer.evaluation.judge.api import Completion

_MOST_BYTES = 256 << 20
"""Of a file that is read; one that is longer is none of ours."""


def digest(url: str, body: Mapping[str, Any]) -> str:
    """Returns what tells a request from all others: where it goes, and all that is sent."""
    text = json.dumps([url, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class KeptReplies:
    """Replies by the digest of their requests, in a file that grows line by line; one that was cut counts as none."""

    path: Path
    _secret: bytes
    _known: dict[str, Completion]
    _file: IO[str] | None = None

    @classmethod
    def open(cls, path: Path, key: str | None, plan_digest: str) -> KeptReplies:
        """Reads what is there.

        Args:
            key: the judge's.
            plan_digest: so that no two runs have the same MAC of the same reply.
        """
        # Slow on purpose: a short key must not be found by trying keys against what lies in the workspace.
        secret = hashlib.scrypt((key or "").encode(), salt=plan_digest.encode(), n=1 << 14, r=8, p=1)
        kept = cls(path, secret, {})
        kept._read()
        return kept

    def get(self, request: str) -> Completion | None:
        return self._known.get(request)

    def keep(self, request: str, completion: Completion) -> None:
        """Writes a reply down. What is written is whole after a kill of the process, or a line that is cut."""
        self._known[request] = completion
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
            # Behind a line that was cut, if there is one.
            self._file.write("\n")
        row = {"request": request, **asdict(completion)}
        self._file.write(json.dumps({**row, "mac": self._mac(row)}) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> None:
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                return
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in filter(None, lines):
            try:
                row = json.loads(line)
                mac = row.pop("mac")
                if not hmac.compare_digest(mac, self._mac(row)):
                    continue
                request = row.pop("request")
                self._known[request] = Completion(**{**row, "tokens": tuple(row["tokens"])})
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue

    def _mac(self, row: Mapping[str, Any]) -> str:
        text = json.dumps(row, sort_keys=True, separators=(",", ":"))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
