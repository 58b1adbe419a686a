"""What a version was told when it was made, kept beside its log: an edit of the endpoint never reaches it.

Also what of the settings this machine cannot do, and where a version may be reached from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slipway.local import ports
from slipway.local.files import read_json, write_json
from slipway.local.state import EndpointFolder, StateError
from slipway_core.resources import uris
from slipway_core.resources.model_endpoint import EndpointTemplate, ModelEndpointSpec, ServedModel
from slipway_core.resources.status import VersionStatus
from slipway_core.rollout.revision import revision_of

_FILE = "version.json"


@dataclass(frozen=True)
class FrozenVersion:
    settings: EndpointTemplate
    model: Path
    keys_file: Path | None

    @property
    def host(self) -> str:
        """The address that it may be reached on: beyond this machine only when its access says so."""
        open_to_others = self.settings.access.anonymous is True or self.keys_file is not None
        return ports.EVERYWHERE if open_to_others else ports.LOOPBACK


def check(settings: EndpointTemplate) -> None:
    """Raises StateError for access that cannot be had on this machine."""
    access = settings.access
    if access.keys_secret is not None:
        raise StateError(
            f"access.keysSecret: {access.keys_secret!r} is a Secret of a cluster, and there is none on this machine; "
            "write the keys into a file, one a line, and name it with access.keysFile"
        )
    if access.anonymous is False and access.keys_file is None:
        raise StateError(
            "access.anonymous: false, and there are no keys, so nobody could ask; write keys into a file, one a line, "
            "and name it with access.keysFile"
        )


def freeze(folder: EndpointFolder, version: VersionStatus, spec: ModelEndpointSpec) -> FrozenVersion:
    """Returns the settings of a version, and writes them down when it starts for the first time.

    Raises StateError when they are lost, or cannot be had on this machine.
    """
    path = folder.version(version.version) / _FILE
    settings = _read(path, version)
    if settings is None:
        settings = _of_spec(version, spec)
        if settings is None:
            raise StateError(f"{path}: the settings of version {version.version} are lost; run the model again")
        write_json(path, {"revision": version.revision, "settings": settings.to_document()})
    check(settings)
    return FrozenVersion(settings, _model_folder(version.uri), _keys_file(settings, folder))


def _read(path: Path, version: VersionStatus) -> EndpointTemplate | None:
    document = read_json(path)
    # A daemon that ended before it wrote its status leaves a folder whose number is given again.
    if not isinstance(document, dict) or document.get("revision") != version.revision:
        return None
    try:
        return EndpointTemplate.model_validate(document.get("settings"), by_alias=True, by_name=False)
    except ValidationError:
        return None


def _of_spec(version: VersionStatus, spec: ModelEndpointSpec) -> EndpointTemplate | None:
    model = ServedModel(uri=version.uri, digest=version.digest, credentials=version.credentials)
    if revision_of(model, spec) != version.revision:
        return None
    return EndpointTemplate(**{name: getattr(spec, name) for name in EndpointTemplate.model_fields})


def _model_folder(uri: str) -> Path:
    found = uris.parse(uri)
    if found.scheme != "file":
        raise StateError(f"model.uri: {uri} is not on this machine; copy the artifact here and name it as file://PATH")
    return Path(found.path)


def _keys_file(settings: EndpointTemplate, folder: EndpointFolder) -> Path | None:
    name = settings.access.keys_file
    # .slipway/endpoints/<name>: a relative path starts where .slipway is.
    return folder.root.parents[2] / name if name is not None else None
