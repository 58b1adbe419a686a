"""The plan's side of what is fetched: which field asks for it, and where its user gives keys and room."""

from __future__ import annotations

from slipway_fetching.asker import Asker


def asker(field: str) -> Asker:
    """Returns who asks for what the URI in a field of the plan names."""
    return Asker(
        field=field,
        credentials=credentials_field(field),
        more_room="Free space there, or give the run a workspace on a larger disk",
    )


def credentials_field(field: str) -> str:
    """Returns the field that names the Secret for a field that holds a URI."""
    return f"{field.removesuffix('.uri')}.credentials" if field.endswith(".uri") else "model.credentials"
