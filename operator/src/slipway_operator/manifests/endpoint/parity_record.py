"""How a serving pod gets the record by which it proves that it serves the model that was judged.

The file alone is mounted, read-only: beside it lies what the evaluation asked and was answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.resources import uris
from slipway_core.resources.status import ParityStatus
from slipway_operator.kube.manifest import Manifest

RECORD = "/parity/parity.json"
VOLUME = "parity"


@dataclass(frozen=True)
class RecordParts:
    """What a pod template gets so that the record is at /parity/parity.json; nothing where there is none."""

    path: str | None = None
    digest: str | None = None
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()


def record_parts(record: ParityStatus | None, model: Manifest) -> RecordParts:
    """Returns the record's part of a pod; `model` is the volume of the model, which may be of the same claim."""
    uri = uris.parse(record.uri) if record is not None else None
    if record is None or uri is None or uri.scheme != "pvc":
        return RecordParts()
    claim = {"claimName": uri.authority, "readOnly": True}
    shared = model.get("persistentVolumeClaim") == claim
    volume = model["name"] if shared else VOLUME
    mount = {"name": volume, "mountPath": RECORD, "subPath": uri.path.strip("/"), "readOnly": True}
    own = () if shared else ({"name": VOLUME, "persistentVolumeClaim": claim},)
    return RecordParts(RECORD, record.digest, own, (mount,))
