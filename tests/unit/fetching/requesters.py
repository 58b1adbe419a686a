"""Who asks, in tests."""

from __future__ import annotations

from slipway_fetching.requester import Requester

FIELD = "stages[0].data.train[0].uri"
OF_A_FIELD = Requester(
    field=FIELD, credentials="stages[0].data.train[0].credentials", more_room="Give the run a larger workspace"
)
OF_THE_MODEL = Requester(
    field="model.from", credentials="model.credentials", more_room="Give the run a larger workspace"
)
