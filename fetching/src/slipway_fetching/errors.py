"""What can go wrong when something is fetched. The message is for the user; the class says what would mend it."""

from __future__ import annotations


class FetchError(Exception):
    """What is wanted could not be brought here: the message names it and says what to do."""


class Misconfigured(FetchError):
    """The URI, the keys or an address in the environment is wrong: another attempt meets the same until it changes."""


class NothingThere(FetchError):
    """The store answers, and nothing lies where the URI points."""


class Refused(FetchError):
    """What lies there, or where it should go, may not be taken: no model, another one, one that nobody has judged."""


class NoRoom(FetchError):
    """The disk is too small for what would be fetched."""


class Unavailable(FetchError):
    """The store or the hub did not give it; it may be otherwise at another time."""
