"""The plan: a run with every default filled in and every relative name resolved, frozen, with a digest.

What runs is the plan. Editing the file, the defaults or the chart never changes a run under way. Where it runs is no
part of what the digest covers: that may be edited while the run is suspended, and each attempt has its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from pydantic import PrivateAttr, model_validator
from pydantic.alias_generators import to_camel

from slipway_core.protocol.workspace import claim_of, is_folder_of, run_folder
from slipway_core.resources import uris
from slipway_core.resources.api import Api, Digest, Name
from slipway_core.resources.compute import PLACEMENT, Compute
from slipway_core.resources.evaluation import DEFAULT_CONFIDENCE, Evaluation
from slipway_core.resources.model import Model
from slipway_core.resources.model_endpoint import EndpointTemplate
from slipway_core.resources.preference import Preference
from slipway_core.resources.stage import Batch, Stage
from slipway_core.resources.tracking import Tracking
from slipway_core.resources.training_run import Checkpoints, Export, Retention, Serving, Storage, TrainingRun

DEFAULT_BATCH_TOKENS = 16384
DEFAULT_VALIDATION_FRACTION = 0.05

Version = Literal[1, 2, 3]
NEWEST: Version = 3
OLDER: tuple[Version, ...] = (2, 1)
"""Versions that earlier releases made, newest first."""
ATTEMPTS_APART = 100_000
"""By how much the attempts of a run that goes on in an earlier one's folder are ahead: the fences there are known in
that folder alone, and no run has as many attempts of a step. One a minute takes ten weeks."""


class RunIdentity(Api):
    name: Name
    namespace: Name
    uid: str


class Images(Api):
    train: str = ""
    serve: str = ""


class Plan(Api):
    """What runs. `digest` covers what decides the model: not suspend, retention, serving, tracking, nor executor
    defaults, and from version 2 on not where it runs (`compute.PLACEMENT`)."""

    version: Version = NEWEST
    """What the digest covers. A record of version 1 keeps its digest, and its run nodes and processesPerNode: the image
    that it was planned with reads them there. Until version 3 a gate that names no confidence takes figures as they
    are: what such a run is judged by does not change under it."""
    run: RunIdentity
    digest: Digest
    model: Model
    stages: list[Stage]
    compute: Compute
    checkpoints: Checkpoints
    retries: int
    evaluation: Evaluation
    export: Export
    storage: Storage | None = None
    serving: Serving | None = None
    tracking: Tracking | None = None
    """As the run was planned with it. It may be edited since: a process goes by what its attempt is told."""
    retention: Retention = Retention()
    images: Images = Images()
    accelerator: str | None = None
    """compute.accelerator, or the executor's default."""
    folder: str | None = None
    """Folder of an earlier run of this name in the claim, in which this one goes on; its own where left out."""
    attempts_before: int | None = None
    """Attempts are counted from here on, where an earlier run wrote into the same folder: no fence there is higher."""
    _words: dict[str, Any] | None = PrivateAttr(default=None)
    """What the digest covers, as a release wrote it that had fewer fields; None where this one writes the same."""

    @model_validator(mode="after")
    def _folder_is_of_its_name(self) -> Self:
        if self.folder is not None and not is_folder_of(self.run.name, self.folder):
            raise ValueError(
                f"folder {self.folder} is not that of a run {self.run.name}: {self.run.name}-<8 hex digits>"
            )
        return self

    @property
    def workspace_folder(self) -> str:
        """Folder of the run in its claim."""
        return self.folder or run_folder(self.run.name, self.run.uid)

    @property
    def claim(self) -> str:
        """The claim that holds that folder, on a cluster."""
        return claim_of(self.storage)

    @property
    def place(self) -> str:
        """The folder with its claim: `CLAIM/FOLDER`, as `pvc://` has it."""
        return f"{self.claim}/{self.workspace_folder}"

    def next_attempt(self, newest: int) -> int:
        """Returns the number of a step's attempt after the newest one that its record has; 0 for none."""
        return max(newest, self.attempts_before or 0) + 1

    def attempts_made(self, newest: int) -> int:
        """Returns how many attempts of a step this run has made, by the number of the newest one."""
        return max(newest - (self.attempts_before or 0), 0)

    @property
    def steps(self) -> list[str]:
        """The steps in the order in which they run."""
        return [*self.judged_steps, *(["publish"] if self.publishes else [])]

    @property
    def judged_steps(self) -> list[str]:
        """The steps that lead to a verdict, in the order in which they run."""
        return ["prepare", *(stage.name for stage in self.stages), "export", "evaluate"]

    @property
    def exports_adapter(self) -> bool:
        """Whether the artifact is an adapter beside its base: the run wants that, or the adapter cannot be merged."""
        last = self.last_stage and self.last_stage.adapter
        return last is not None and (not self.export.merge_adapter or last.before_text)

    @property
    def last_stage(self) -> Stage | None:
        """None where the model is judged as it is."""
        return self.stages[-1] if self.stages else None

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens in front of every text that the artifact reads."""
        return self.last_stage.virtual_tokens if self.last_stage is not None else 0

    @property
    def compares_with_base(self) -> bool:
        """Whether a gate compares the model with the one that the first stage starts from."""
        return self.evaluation.compares_with("Base")

    @property
    def publishes(self) -> bool:
        """Whether something is to be told or sent to others once there is a verdict."""
        return self.tracking is not None or self.export.push is not None

    def stage(self, name: str) -> Stage:
        """Raises KeyError when the plan has no such stage."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(f"the plan has no stage {name!r}; it has {', '.join(s.name for s in self.stages) or 'none'}")

    def stage_before(self, name: str) -> Stage | None:
        names = [stage.name for stage in self.stages]
        index = names.index(name)
        return self.stages[index - 1] if index else None

    def to_json(self) -> str:
        """Returns `plan.json`, which `load` takes: of an older release's plan, its words."""
        document = self.to_document()
        # The image that a plan of version 1 pins reads no field that came later.
        words = dict(self._words or (_without_newer(_of(self)) if self.version == 1 else {}))
        if self.version > 1 and "compute" in words:
            words["compute"] = {**words["compute"], **_placement(document["compute"])}
        return json.dumps({**document, **words}, ensure_ascii=False, indent=2) + "\n"


@dataclass(frozen=True)
class ExecutorDefaults:
    """What an executor adds to a run; none of it is part of the digest."""

    folder: str | None = None
    """Where relative `file` URIs start: the folder of the YAML file locally, the examples of the image in a pod."""
    images: Images = field(default_factory=Images)
    accelerator: str | None = None
    template: EndpointTemplate | None = None
    runs: Mapping[str, str] | None = None
    """Where the artifacts of other runs are, by run; `run://name` becomes that URI. None leaves it to the trainer."""


_NEWER: Mapping[str, Mapping[str, object]] = {
    "stages[]": {"learn": "AllAnswers", "tooLong": "Auto", "labelSmoothing": 0.0, "compile": "Auto"},
    "stages[].adapter": {"rankStabilized": False, "virtualTokens": 20},
    "stages[].data": {"deduplicate": "None"},
    "stages[].data.train[]": {"format": "Auto", "documents": "File", "streaming": False},
    "stages[].data.validation.data[]": {"format": "Auto", "documents": "File", "streaming": False},
    "evaluation": {"onOverlap": "Refuse", "engine": "Auto", "tasks": []},
    "evaluation.data[]": {"format": "Auto", "documents": "File", "streaming": False},
    "evaluation.prompts[]": {"format": "Auto", "streaming": False},
    "export": {"gguf": "None"},
}
"""Fields that came after the first release, with the value by which a run does what it did without them. The digest
leaves them out where they have it: a release with more fields gives a run the digest that it always had. Whoever adds a
field with a default to what the digest covers adds it here; one that is None when left out needs nothing. A default
that changes later does not change here: that is another plan."""
_STEPS_ONCE = 200
"""Steps between two checkpoints where a run said nothing, in releases that knew no interval. The digest of such a run
stays, and a run that was begun with them goes on with them."""
_DIGESTED = ("model", "stages", "compute", "checkpoints", "retries", "evaluation", "export")
_PLACED = frozenset(to_camel(name) for name in PLACEMENT)
_FIXED_IN_1 = ("nodes", "processes_per_node")


def resolve(
    run: TrainingRun,
    defaults: ExecutorDefaults | None = None,
    *,
    uid: str | None = None,
    version: Version = NEWEST,
) -> Plan:
    """Returns the plan of a run. The same run gives the same plan, byte for byte.

    Of a version before the newest it is the one that an earlier release made, for what that has planned.

    Fields that need a device (precision, ZeRO stage, target modules) stay `Auto`; a stage's first attempt decides
    them on the device and writes them down.

    Raises uris.UriError for a URI outside the grammar, KeyError for a run that `defaults.runs` does not have, and
    ValueError when the run has no uid.
    """
    identity = uid or run.metadata.uid
    if not identity:
        raise ValueError(f"run {run.name} has no uid")
    defaults = defaults or ExecutorDefaults()
    spec = _anchored(run, defaults).spec
    fields: dict[str, Any] = {
        "model": spec.model,
        "stages": [_filled(stage) for stage in spec.stages],
        "compute": spec.compute if version > 1 else _as_in_1(spec.compute),
        "checkpoints": spec.checkpoints if version > 1 else _by_steps(spec.checkpoints),
        "retries": spec.retries,
        "evaluation": spec.evaluation if version < 3 else _sure(spec.evaluation),
        "export": spec.export,
    }
    return Plan(
        version=version,
        run=RunIdentity(name=run.name, namespace=run.metadata.namespace or "default", uid=identity),
        digest=_digest(_covered(version, fields)),
        storage=spec.storage,
        serving=spec.serving,
        tracking=spec.tracking,
        retention=spec.retention,
        images=defaults.images,
        accelerator=spec.compute.accelerator or defaults.accelerator,
        **fields,
    )


def load(text: str) -> Plan:
    """Parses `plan.json`. Raises pydantic.ValidationError, or ValueError when its digest is not that of its content.

    The digest is that of the words themselves: a release that adds a field with a default reads older plans too.
    """
    plan = Plan.model_validate_json(text, by_alias=True, by_name=False)
    words = _covered(plan.version, json.loads(text))
    if plan.digest != (found := _digest(words)):
        raise ValueError(f"plan.json was changed: its digest is {plan.digest} and its content has {found}")
    if plan.digest != _digest(_of(plan)):
        plan._words = words  # pyright: ignore[reportPrivateUsage]
    return plan


def digest_in(text: str) -> str | None:
    """Returns the digest of what a `plan.json` says, whatever it claims, also where `load` cannot read it.

    None where it is no JSON object.
    """
    try:
        written = json.loads(text)
    except ValueError:
        return None
    if not isinstance(written, dict):
        return None
    said = cast(dict[str, Any], written)
    return _digest(_covered(said.get("version"), said))


def as_written(fresh: Plan, older: Plan) -> Plan:
    """Returns a plan as an older one has it that differs in nothing that the digest covers (see `differences`): a
    release with more fields gives the same plan another digest."""
    mine = {name: getattr(fresh, name) for name in Plan.model_fields if name not in (*_DIGESTED, "digest")}
    return placed(older.model_copy(update=mine), fresh.compute)


def going_on_in(plan: Plan, folder: str, attempts: int) -> Plan:
    """Returns the plan of a run that goes on in the folder of an earlier one.

    Args:
        plan: of the run.
        folder: of the earlier run, in the same claim.
        attempts: a number that the attempts of the earlier run have been counted from.
    """
    before = (attempts // ATTEMPTS_APART + 1) * ATTEMPTS_APART
    return plan.model_copy(update={"folder": folder, "attempts_before": before})


def in_folder_of(plan: Plan, other: Plan) -> Plan:
    """Returns a plan in the folder of another one of the same run."""
    return plan.model_copy(update={"folder": other.folder, "attempts_before": other.attempts_before})


def placed(plan: Plan, now: Compute) -> Plan:
    """Returns a plan with where its run runs now, as the resource says; of version 1 nodes and processes stay."""
    fields = [name for name in PLACEMENT if plan.version > 1 or name not in _FIXED_IN_1]
    update = {name: getattr(now, name) for name in fields}
    return plan.model_copy(update={"compute": plan.compute.model_copy(update=update)})


def fixed_in_1(plan: Plan, now: Compute) -> list[Difference]:
    """Returns what a resource wants of where its run runs and a plan of version 1 does not let it have."""
    wanted = [(name, getattr(plan.compute, name), getattr(now, name)) for name in _FIXED_IN_1 if plan.version == 1]
    return [Difference(f"compute.{to_camel(name)}", was, is_) for name, was, is_ in wanted if was != is_]


def _as_in_1(compute: Compute) -> Compute:
    """Version 1 wrote out what was left out."""
    empty = {"node_selector": compute.node_selector or {}, "tolerations": compute.tolerations or []}
    return compute.model_copy(update=empty)


def _by_steps(checkpoints: Checkpoints) -> Checkpoints:
    """The image that a plan of version 1 pins knows no other."""
    return checkpoints.model_copy(update={"interval": None, "every_steps": checkpoints.every_steps or _STEPS_ONCE})


def _sure(evaluation: Evaluation) -> Evaluation:
    """Returns an evaluation whose gates all say how sure a verdict must be."""
    gates = [one.model_copy(update={"confidence": one.confidence or DEFAULT_CONFIDENCE}) for one in evaluation.gates]
    return evaluation.model_copy(update={"gates": gates})


def _of(plan: Plan) -> dict[str, Any]:
    return _covered(plan.version, {name: getattr(plan, name) for name in _DIGESTED})


def _covered(version: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the digest covers, as plain JSON values."""
    covered = {name: _plain(fields[name]) for name in _DIGESTED if name in fields}
    compute = covered.get("compute")
    if version != 1 and isinstance(compute, dict):
        own = cast(dict[str, Any], compute)
        covered["compute"] = {name: value for name, value in own.items() if name not in _PLACED}
    checkpoints = covered.get("checkpoints")
    if isinstance(checkpoints, dict) and not {"interval", "everySteps"} & checkpoints.keys():
        covered["checkpoints"] = {"everySteps": _STEPS_ONCE, **cast(dict[str, Any], checkpoints)}
    return covered


def _placement(compute: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in compute.items() if name in _PLACED}


@dataclass(frozen=True)
class Difference:
    field: str
    was: Any
    is_: Any


def differences(old: Plan, new: Plan) -> list[Difference]:
    """Returns the fields that the digest covers and that differ, by their YAML path."""
    was, is_ = _of(old), _of(new)
    return [d for name in _DIGESTED for d in _differences(name, was[name], is_[name])]


def _differences(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        was, is_ = cast(dict[str, Any], old), cast(dict[str, Any], new)
        for key in sorted(was.keys() | is_.keys()):
            yield from _differences(f"{path}.{key}", was.get(key), is_.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(cast(list[Any], old)) == len(cast(list[Any], new)):
        for index, (a, b) in enumerate(zip(cast(list[Any], old), cast(list[Any], new), strict=True)):
            yield from _differences(f"{path}[{index}]", a, b)
    elif old != new:
        yield Difference(path, old, new)


def _plain(value: Any) -> Any:
    if isinstance(value, Api):
        return value.to_document()
    return [_plain(item) for item in cast(list[Any], value)] if isinstance(value, list) else value


def _digest(covered: dict[str, Any]) -> str:
    canonical = json.dumps(_without_newer(covered), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _without_newer(value: Any, path: str = "") -> Any:
    """Returns what a plan says without the fields of _NEWER that say nothing new."""
    if isinstance(value, dict):
        newer = _NEWER.get(path, {})
        return {
            name: _without_newer(held, f"{path}.{name}" if path else name)
            for name, held in cast(dict[str, Any], value).items()
            if name not in newer or newer[name] != held
        }
    return [_without_newer(one, f"{path}[]") for one in cast(list[Any], value)] if isinstance(value, list) else value


def _filled(stage: Stage) -> Stage:
    update: dict[str, Any] = {}
    if stage.epochs is None and stage.steps is None and stage.tokens is None:
        update["epochs"] = 1.0
    if stage.batch.tokens is None and stage.batch.sequences is None:
        update["batch"] = Batch(tokens=DEFAULT_BATCH_TOKENS, micro_sequences=stage.batch.micro_sequences)
    data: dict[str, Any] = {}
    validation = stage.data.validation
    if validation is not None and validation.fraction is None and validation.data is None:
        data["validation"] = validation.model_copy(update={"fraction": DEFAULT_VALIDATION_FRACTION})
    if stage.data.normalization is not None:
        # A set: another order of the same words is the same plan.
        data["normalization"] = sorted(stage.data.normalization)
    if data:
        update["data"] = stage.data.model_copy(update=data)
    if stage.adapter is not None and stage.adapter.method == "None":
        update["adapter"] = None
    if stage.objective == "Preference":
        update["preference"] = (stage.preference or Preference()).filled()
    return stage.model_copy(update=update)


def named_runs(run: TrainingRun) -> list[str]:
    """Returns the other runs that a run starts from: those that its `run://` URIs name.

    Raises uris.UriError, with the field, for a URI outside the grammar.
    """
    found: set[str] = set()

    def visit(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in cast(dict[str, Any], value).items():
                if key in ("uri", "from") and isinstance(inner, str):
                    uri = _parsed(inner, f"{path}.{key}")
                    found.update([uri.authority] if uri.scheme == "run" else [])
                visit(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for index, item in enumerate(cast(list[Any], value)):
                visit(item, f"{path}[{index}]")

    visit(run.spec.model_copy(update={"tracking": None}).to_document(), "spec")
    return sorted(found)


def _parsed(text: str, path: str) -> uris.Uri:
    try:
        return uris.parse(text)
    except uris.UriError as error:
        raise uris.UriError(f"{path}: {error}") from None


def _anchored(run: TrainingRun, defaults: ExecutorDefaults) -> TrainingRun:
    """Checks every URI of the run against the grammar, makes relative `file` URIs absolute, and finds other runs."""
    folder = defaults.folder

    def visit(value: Any, path: str) -> Any:
        if isinstance(value, Tracking):
            return value  # The address of a tracker names no model and no data.
        if isinstance(value, Api):
            update = {
                name: visit(getattr(value, name), f"{path}.{field.alias or name}")
                for name, field in type(value).model_fields.items()
                if getattr(value, name) is not None
            }
            return value.model_copy(update=update)
        if isinstance(value, list):
            return [visit(item, f"{path}[{index}]") for index, item in enumerate(cast(list[Any], value))]
        if isinstance(value, str) and path.rsplit(".", 1)[-1] in ("uri", "from"):
            uri = _parsed(value, path)
            if uri.scheme == "run" and defaults.runs is not None:
                return defaults.runs[uri.authority]
            return str(uris.anchor(uri, folder)) if folder else value
        if isinstance(value, str) and path.endswith(".keysFile") and folder:
            return uris.anchor(uris.Uri("file", "", value), folder).path
        return value

    return run.model_copy(update={"spec": visit(run.spec, "spec")})
