"""Who wants something fetched: a field of a plan, or a server of which there is nothing but the URI."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Requester:
    """Where errors send the one who asks: to what was written, to the keys, and to the disk."""

    credentials: str
    """The field that names the Secret on a cluster."""
    more_room: str
    """What to do about a disk that is too small, as a sentence."""
    field: str = ""
    """In which the URI stands; empty where an error has only the URI to name."""

    patience: timedelta = timedelta(seconds=30)
    """For how long a store that does not answer is asked again. Not for long where the whole step is tried again."""

    def named(self, uri: object) -> str:
        """Returns how an error about something that was asked for begins."""
        return f"{self.field}: {uri}" if self.field else str(uri)
