"""Who asks, in tests."""

from __future__ import annotations

from slipway_fetching.asker import Asker

FIELD = "stages[0].data.train[0].uri"
OF_A_FIELD = Asker(
    field=FIELD, credentials="stages[0].data.train[0].credentials", more_room="Give the run a larger workspace"
)
OF_THE_MODEL = Asker(field="model.from", credentials="model.credentials", more_room="Give the run a larger workspace")
