"""MLflow: one run of an experiment on a tracking server, by the slim client."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from slipway_core.resources.tracking import Mlflow
from slipway_trainer.tracking.tracker import Begun, Conclusion, Outcome, Row, TrackedRun, TrackerAway, TrackerRefuses

_UID = "slipway.uid"
"""Tag by which a run is found again."""
_VALUE_LIMIT, _KEY_LIMIT, _PARAMS_AT_ONCE, _METRICS_AT_ONCE = 500, 250, 100, 1000
"""What a server takes: characters of a parameter, and items of a request."""
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
_UNUSED = ("pandas", "pyarrow", "sklearn", "scipy", "torch")
"""What the client imports where it is there: it took 3 times as long with them."""
_REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND", "INVALID_PARAMETER_VALUE", "BAD_REQUEST")


@dataclass
class MlflowServer:
    run: TrackedRun
    settings: Mlflow
    _client: Any = None
    _id: str = ""

    def begin(self) -> Begun:
        self._client = _client(self.settings.uri)
        with _in_our_words(self.settings):
            experiment = self._experiment()
            found = self._client.search_runs(
                [experiment], filter_string=f"tags.`{_UID}` = '{self.run.uid}'", max_results=1
            )
            run = found[0] if found else self._create(experiment)
            self._id = run.info.run_id
            self._configure(run.data.params)
            self._client.update_run(self._id, status="RUNNING")
        return Begun(f"{self.settings.uri.rstrip('/')}/#/experiments/{experiment}/runs/{self._id}")

    def rewind(self, axis: int) -> None:
        """A step that comes again stands beside what it was, and the later one is shown."""

    def log(self, rows: Sequence[Row]) -> None:
        self._log([_metric(name, value, row.seconds, row.axis) for row in rows for name, value in row.values.items()])

    def conclude(self, conclusion: Conclusion) -> None:
        self._log([_metric(name, v, conclusion.seconds, conclusion.axis) for name, v in conclusion.metrics.items()])
        from mlflow.entities import RunTag

        tags = [RunTag(f"slipway.{name}", value[:_VALUE_LIMIT]) for name, value in conclusion.facts.items()]
        with _in_our_words(self.settings):
            self._client.log_batch(self._id, tags=tags)

    def end(self, outcome: Outcome) -> None:
        if outcome == "paused":
            return
        with _in_our_words(self.settings):
            self._client.set_terminated(self._id, status="FAILED" if outcome == "failed" else "FINISHED")

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.settings.experiment
        for _ in range(2):
            if (found := self._client.get_experiment_by_name(name)) is not None:
                if found.lifecycle_stage == "deleted":
                    raise TrackerRefuses(f"the experiment {name!r} is deleted there: restore it, or name another one")
                return found.experiment_id
            try:
                return self._client.create_experiment(name)
            except MlflowException as error:
                # Another run made it in this moment.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        raise TrackerAway(f"the experiment {name!r} exists and cannot be found")

    def _create(self, experiment: str) -> Any:
        tags = {
            _UID: self.run.uid,
            "slipway.run": self.run.name,
            "slipway.namespace": self.run.namespace,
            "slipway.plan_digest": self.run.plan_digest,
            "mlflow.source.name": "slipway",
            "mlflow.user": "slipway",
        }
        return self._client.create_run(experiment, run_name=self.run.name, tags=tags)

    def _configure(self, told: Mapping[str, str]) -> None:
        """Tells of the configuration what the run has not: whoever made it may have been killed before it had told
        all."""
        from mlflow.entities import Param

        flat = {key[:_KEY_LIMIT]: value[:_VALUE_LIMIT] for key, value in parameters(self.run.config)}
        lacking = [Param(key, value) for key, value in flat.items() if key not in told]
        for first in range(0, len(lacking), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=lacking[first : first + _PARAMS_AT_ONCE])

    def _log(self, metrics: list[Any]) -> None:
        with _in_our_words(self.settings):
            for first in range(0, len(metrics), _METRICS_AT_ONCE):
                self._client.log_batch(self._id, metrics=metrics[first : first + _METRICS_AT_ONCE])


def parameters(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields a configuration as flat pairs; a list of named objects by their names: stages.learn.epochs."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from parameters(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for index, inner in enumerate(value):
            named = inner.get("name") if isinstance(inner, Mapping) else None
            yield from parameters(inner, f"{path}.{named or index}")
    else:
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _client(uri: str) -> Any:
    os.environ.update(_ENVIRONMENT)
    for name in _UNUSED:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment]
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _metric(name: str, value: float, seconds: float, axis: int) -> Any:
    from mlflow.entities import Metric

    return Metric(name, value, int(seconds * 1000), axis)


@contextmanager
def _in_our_words(settings: Mlflow) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = str(error).strip().splitlines()[0][:300]
        status = error.get_http_status_code()
        if status in (401, 403) or error.error_code in _REFUSALS[:2]:
            keys = "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            raise TrackerRefuses(
                f"{settings.uri} does not let us in: {said}. Set {keys} in the environment; on a cluster in the Secret "
                "that tracking.mlflow.credentials names"
            ) from None
        if error.error_code in _REFUSALS:
            raise TrackerRefuses(f"{settings.uri}: {said}") from None
        raise TrackerAway(f"{settings.uri} does not take it: {said}") from None
    except OSError as error:
        raise TrackerAway(f"{settings.uri} does not answer: {error}") from None
