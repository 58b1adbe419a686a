"""The plan's side of what is fetched: which field asks for it, and where its user gives keys and room."""

from __future__ import annotations

from slipway_fetching.requester import Requester


def requester(field: str) -> Requester:
    """Returns who asks for what the URI in a field of the plan names."""
    return Requester(
        field=field,
        credentials=credentials_field(field),
        more_room="Free space there, or give the run a workspace on a larger disk",
    )


def credentials_field(field: str) -> str:
    """Returns the field that names the Secret for a field that holds a URI."""
    return f"{field.removesuffix('.uri')}.credentials" if field.endswith(".uri") else "model.credentials"
