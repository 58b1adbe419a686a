"""Who may ask an endpoint on a cluster.

| access | asks for a key | the NetworkPolicy lets in |
|---|---|---|
| keysSecret | yes | every namespace |
| anonymous: true | no | every namespace |
| left out | no; the condition AccessOpen says so | its own namespace, the operator's, who reads metrics |

On one machine, access that is left out means the loopback address; a pod that is reached by nobody but itself would
be of no use, and the same file has to work on both. A namespace is one team, so it is what comes next to it.
"""

from __future__ import annotations

from slipway_core.resources.conditions import Blocker
from slipway_core.resources.model_endpoint import Access, EndpointTemplate
from slipway_operator.manifests.errors import ManifestError

CONDITION = "AccessOpen"


def check(settings: EndpointTemplate) -> None:
    """Raises ManifestError for access that cannot be had on a cluster."""
    access = settings.access
    if access.keys_file is not None:
        raise ManifestError(
            "KeysFileOnCluster",
            f"access.keysFile: {access.keys_file!r} is a file of one machine; put the keys into a Secret, one a line "
            "under the key `keys`, and name it with access.keysSecret",
        )
    if access.anonymous is False and access.keys_secret is None:
        raise ManifestError(
            "NoKeys",
            "access.anonymous: false, and there are no keys, so nobody could ask; put keys into a Secret, one a line "
            "under the key `keys`, and name it with access.keysSecret",
        )


def is_anonymous(settings: EndpointTemplate) -> bool:
    """Returns whether the server answers without a key."""
    return settings.access.keys_secret is None


def is_for_every_namespace(access: Access) -> bool:
    """Returns whether somebody said that other namespaces may ask: by keys, or in words."""
    return access.keys_secret is not None or access.anonymous is True


def open_access(settings: EndpointTemplate) -> Blocker | None:
    """Returns the condition of an endpoint that answers without a key because nobody said who may ask it."""
    if settings.access.anonymous is not None or not is_anonymous(settings):
        return None
    message = (
        "access is left out: every pod of this namespace may ask this endpoint without a key, and the NetworkPolicy "
        "keeps other namespaces out; name a Secret with access.keysSecret, or say access.anonymous: true if the whole "
        "cluster is meant"
    )
    return Blocker(CONDITION, "NoAccessSet", message, warns=False)
