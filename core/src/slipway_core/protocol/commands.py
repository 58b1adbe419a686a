"""The command lines of the processes that an executor starts. Pure, so that both executors start the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slipway_core.protocol import trust, variables
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources.api import quantity, seconds
from slipway_core.resources.model_endpoint import EndpointTemplate
from slipway_core.resources.stage import FIXED_STEPS

_DTYPES = {"Auto": "auto", "BF16": "bfloat16", "FP16": "float16", "FP32": "float32"}


@dataclass(frozen=True)
class Baseline:
    """The live version that a model is compared with. Its text is that of evaluate's `--baseline`."""

    uri: str
    digest: str
    credentials: str | None = None
    """Secret that it is fetched with."""

    @classmethod
    def parse(cls, text: str) -> Baseline:
        """Reads what `str` writes; the Secret is not in it. Raises ValueError for anything but URI@digest."""
        uri, _, digest = text.rpartition("@")
        if not uri or not digest.startswith("sha256:"):
            raise ValueError(f"{text}: must be URI@sha256:…, the live version's artifact and its digest")
        return cls(uri, digest)

    def __str__(self) -> str:
        return f"{self.uri}@{self.digest}"


@dataclass(frozen=True)
class Inputs:
    """What a step is told beside its plan. Digests of what it reads in its workspace, as the run's record has them: who
    can write there cannot change those. None is not known."""

    held_out: str | None = None
    """Of the held-out data: an earlier preparation that prepare may keep, and what evaluate measures upon."""
    artifact: str | None = None
    """Of the model that evaluate measures, and publish pushes."""
    tracking: str | None = None
    """Where a stage and publish are tracked, as JSON: what the resource has now."""
    judged: str | None = None
    """What publish tells others of the verdict, as JSON."""

    def variables(self) -> dict[str, str]:
        """Returns the environment variables that tell a process of them: those that are known."""
        told = {
            variables.HELD_OUT_DIGEST_VARIABLE: self.held_out,
            variables.ARTIFACT_DIGEST_VARIABLE: self.artifact,
            variables.TRACKING_VARIABLE: self.tracking,
            variables.JUDGED_VARIABLE: self.judged,
        }
        return {name: text for name, text in told.items() if text is not None}


def step_command(
    step: str, *, plan: str, attempt: int, workspace: str | None = None, baseline: Baseline | None = None
) -> list[str]:
    """Returns the arguments of `slipway-trainer` for one attempt of a step."""
    command = [step if step in FIXED_STEPS else "train", "--plan", plan, "--attempt", str(attempt)]
    if workspace is not None:
        command += ["--workspace", workspace]
    if step not in FIXED_STEPS:
        command += ["--stage", step]
    if baseline is not None:
        command += ["--baseline", str(baseline)]
    return command


def serve_environment(statement: str, keys: Sequence[TrustedKey]) -> dict[str, str]:
    """Returns the variables by which a server finds that its model passed.

    Args:
        statement: the envelope.
        keys: that may have signed it.
    """
    # A server is told one statement, and not where it is kept; one of an earlier release knows no such field.
    told = [key.model_copy(update={"own": False}) for key in keys]
    return {variables.STATEMENT_VARIABLE: statement.strip(), variables.TRUSTED_KEYS_VARIABLE: trust.dump(told)}


def serve_command(
    settings: EndpointTemplate,
    *,
    model: str,
    digest: str,
    name: str,
    host: str,
    port: int,
    parity: str | None = None,
    parity_digest: str | None = None,
    keys_file: str | None = None,
    allow_anonymous: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
    linger: float | None = None,
) -> list[str]:
    """Returns the arguments of `slipway-server` for one version of an endpoint.

    `parity`: record of the evaluation, with its digest.

    `linger`: seconds for which a server that is told to end still answers, before its drain.
    """
    engine, limits = settings.engine, settings.limits
    command = [
        "--model",
        model,
        "--digest",
        digest,
        "--served-name",
        name,
        "--host",
        host,
        "--port",
        str(port),
    ]
    if parity is not None and parity_digest is not None:
        command += ["--parity", parity, "--parity-digest", parity_digest]
    if limits.max_concurrent is not None:
        command += ["--max-concurrent", str(limits.max_concurrent)]
    if limits.max_queue is not None:
        command += ["--max-queue", str(limits.max_queue)]
    command += ["--max-new-tokens", str(limits.max_new_tokens)]
    command += ["--request-timeout", str(seconds(limits.request_timeout))]
    command += ["--drain-seconds", str(max(1, seconds(settings.rollout.drain)))]
    if linger is not None:
        command += ["--linger-seconds", f"{linger:g}"]
    command += ["--dtype", _DTYPES[engine.dtype], "--tensor-parallel", str(engine.tensor_parallel)]
    if engine.max_model_length is not None:
        command += ["--max-model-length", str(engine.max_model_length)]
    if device == "cuda":
        command += ["--gpu-memory-utilization", str(engine.gpu_memory_utilization)]
    else:
        command += ["--kv-cache-gib", f"{quantity(engine.kv_cache or '1Gi') / 2**30:g}"]
    if keys_file is not None:
        command += ["--api-keys-file", keys_file]
    if allow_anonymous:
        command.append("--allow-anonymous")
    return command
