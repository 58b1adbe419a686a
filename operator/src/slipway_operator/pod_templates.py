"""What whoever runs the cluster adds to pods under a name, and a run or an endpoint picks by that name alone.

It is read once, at the operator's start, and refused there where it would take from what each pod promises: no token of
the API server (invariant H), none of our own files and variables replaced.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Final, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

VOLUMES: Final = (
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
)  # fmt: skip
PROJECTED: Final = ("clusterTrustBundle", "configMap", "downwardAPI")
_VALUES: Final = ("configMapKeyRef", "fieldRef", "resourceFieldRef")
_AFFINITIES: Final = ("nodeAffinity", "podAffinity", "podAntiAffinity")
_SPREAD: Final = (
    "maxSkew", "topologyKey", "whenUnsatisfiable", "labelSelector", "matchLabelKeys", "minDomains",
    "nodeAffinityPolicy", "nodeTaintsPolicy",
)  # fmt: skip
_OUR_VOLUMES: Final = frozenset({"workspace", "plan", "tmp", "shm", "model", "keys"})
_OUR_PATHS: Final = (
    "/workspace", "/claims", "/etc/slipway", "/model", "/tmp", "/opt/slipway", "/opt/venv", "/dev", "/proc", "/sys",
    "/var/run/secrets", "/run/secrets",
)  # fmt: skip
_NAME: Final = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_TOKEN: Final = "it may hold a token of the API server, and no pod that trains or serves has one (invariant H)"


def _only(what: str, found: dict[str, Any], allowed: tuple[str, ...]) -> None:
    if unknown := sorted(found.keys() - set(allowed)):
        raise ValueError(f"{what} has {', '.join(unknown)}; it may have {', '.join(allowed)}")


def _affinity(value: dict[str, Any]) -> dict[str, Any]:
    _only("affinity", value, _AFFINITIES)
    return value


def _spread(value: dict[str, Any]) -> dict[str, Any]:
    _only("a constraint", value, _SPREAD)
    if missing := [name for name in ("maxSkew", "topologyKey", "whenUnsatisfiable") if name not in value]:
        raise ValueError(f"a constraint needs {', '.join(missing)}")
    return value


def _volume(value: dict[str, Any]) -> dict[str, Any]:
    name, kinds = value.get("name"), sorted(value.keys() - {"name"})
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"a volume needs a name of lower-case letters, digits and '-', found {name!r}")
    if name in _OUR_VOLUMES or name.startswith("claim-"):
        raise ValueError(f"the volume {name} is called like one of Slipway's own; give it another name")
    if kinds == ["secret"]:
        raise ValueError(
            f"the volume {name} is a Secret: {_TOKEN}. Put what is no secret into a ConfigMap; keys of data and models "
            "are named by `credentials`"
        )
    if len(kinds) != 1 or kinds[0] not in VOLUMES:
        raise ValueError(f"the volume {name} is {', '.join(kinds) or 'nothing'}; it may be one of {', '.join(VOLUMES)}")
    if kinds == ["projected"]:
        _projected(name, value["projected"])
    return value


def _projected(name: str, projected: Any) -> None:
    found = cast(dict[str, Any], projected).get("sources") if isinstance(projected, dict) else None
    for source in cast(list[Any], found) if isinstance(found, list) else [None]:
        kinds = sorted(cast(dict[str, Any], source)) if isinstance(source, dict) else []
        if "serviceAccountToken" in kinds or "secret" in kinds:
            raise ValueError(f"the volume {name} has the source {', '.join(kinds)}: {_TOKEN}; leave it out")
        if len(kinds) != 1 or kinds[0] not in PROJECTED:
            said = ", ".join(kinds) or "nothing"
            raise ValueError(f"the volume {name} has the source {said}; it may be one of {', '.join(PROJECTED)}")


def _mount_path(path: str) -> str:
    if not path.startswith("/") or posixpath.normpath(path) != path:
        raise ValueError(f"{path} is no absolute path as it is written shortest, such as /etc/pki/company")
    for own in _OUR_PATHS:
        if f"{path}/".startswith(f"{own}/") or f"{own}/".startswith(f"{path.rstrip('/')}/"):
            raise ValueError(f"{path} is where a pod has something of its own ({own}); mount it elsewhere")
    return path


def _env_name(name: str) -> str:
    if name.startswith("SLIPWAY_"):
        raise ValueError(
            f"{name}: variables that begin with SLIPWAY_ are what the operator tells a process; leave it out"
        )
    return name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


class EnvVar(_Part):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_env_name)]
    value: str | None = None
    value_from: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _names_no_secret(self) -> Self:
        kinds = sorted(self.value_from or {})
        if kinds and (len(kinds) != 1 or kinds[0] not in _VALUES):
            why = f": {_TOKEN}" if "secretKeyRef" in kinds else ""
            raise ValueError(
                f"{self.name} has valueFrom.{', '.join(kinds)}{why}; it may have one of {', '.join(_VALUES)}, or value"
            )
        if (self.value is None) == (not kinds):
            raise ValueError(f"{self.name} needs value or valueFrom, and not both")
        return self


class VolumeMount(_Part):
    name: str
    mount_path: Annotated[str, AfterValidator(_mount_path)]
    sub_path: str | None = None
    read_only: bool | None = None


class PodTemplate(_Part):
    """Never a pod of its own: what is added to one of ours, which keeps its security context and holds no token."""

    service_account_name: str | None = None
    runtime_class_name: str | None = None
    affinity: Annotated[dict[str, Any], AfterValidator(_affinity)] = Field(default_factory=dict[str, Any])
    topology_spread_constraints: tuple[Annotated[dict[str, Any], AfterValidator(_spread)], ...] = ()
    """Each without a labelSelector gets that of the pods themselves."""
    env: tuple[EnvVar, ...] = ()
    volumes: tuple[Annotated[dict[str, Any], AfterValidator(_volume)], ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        names = [volume["name"] for volume in self.volumes]
        variables = [variable.name for variable in self.env]
        paths = [mount.mount_path for mount in self.volume_mounts]
        for what, found in (("volumes", names), ("env", variables), ("volumeMounts", paths)):
            if twice := sorted({one for one in found if found.count(one) > 1}):
                raise ValueError(f"{what} has {', '.join(twice)} more than once")
        if lost := sorted({mount.name for mount in self.volume_mounts} - set(names)):
            raise ValueError(f"volumeMounts names {', '.join(lost)}, which is none of volumes")
        return self

    def to_manifests(self, field: str) -> list[dict[str, Any]]:
        """Returns one of the lists as a pod has it."""
        parts: tuple[_Part, ...] = getattr(self, field)
        return [part.model_dump(by_alias=True, exclude_none=True) for part in parts]
