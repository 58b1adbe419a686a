"""Names of files, without the folder that all of them share."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass

from slipway_core.protocol.preview import Preview

_BEGINS = r"""(?:(?<=file://)|(?<![^\s"'(=\[]))"""
"""Before a name: /mnt/data/a.jsonl and s3://data/a.jsonl do not lie in /data/."""


@dataclass(frozen=True)
class Names:
    folder: str
    """With a slash at its end; empty where the files share none."""

    @classmethod
    def of(cls, preview: Preview) -> Names:
        """Returns the names of what a preview shows."""
        local = [view.name for stage in preview.stages for view in stage.files if view.name.startswith("/")]
        shared = os.path.commonpath([os.path.dirname(name) for name in local]) if local else "/"
        return cls("" if shared == "/" else f"{shared}/")

    def shorten(self, text: str) -> str:
        """Returns a text with the names in it shortened."""
        return re.sub(_BEGINS + re.escape(self.folder), "", text) if self.folder else text
