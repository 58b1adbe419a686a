"""The init container that looks whether what a step mounts is there, before the kubelet does.

The kubelet makes a sub-path that is missing: as a folder, of root, with the mode of the volume's own. A run's folder
made that way is one that the step may not write where the volume's owner is our user, as on NFS; and for a misspelled
URI it would leave a folder of that name in somebody's claim, and tell nobody. So prepare's own folder is made here, as
the user that writes it, and what a URI names has to be there. This container alone has the whole claims. It runs these
lines and none of what lies in a claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from slipway_core.plan import Plan
from slipway_core.resources import pod_security, uris
from slipway_operator.kube.manifest import Manifest
from slipway_operator.manifests.pod import claims, environment, scratch
from slipway_operator.manifests.pod.credentials import Source
from slipway_operator.manifests.run.step_resources import step_resources
from slipway_operator.manifests.run.workspace_folder import path_of
from slipway_operator.settings import Settings

CONTAINER: Final = "sub-paths"

SCRIPT: Final = """\
[ -z "$1" ] || mkdir -p -- "$1" || exit 1
mounted=$2
shift 2
set -f
IFS='
'
seen() {
  for root in $mounted; do
    root=$(readlink -e -- "$root") && case $1/ in "$root"/*) return 0 ;; esac
  done
  return 1
}
while [ $# -gt 1 ]; do
  if ! why=$(LC_ALL=C ls -dL -- "$2" 2>&1); then
    why=${why##*: }
    case $why in
      "No such file or directory" | "Not a directory" | "Too many levels of symbolic links")
        echo "$1: $why in the claim; put it there, or correct the URI" >&2
        exit 2 ;;
    esac
    echo "$1: the claim cannot be looked at: $why" >&2
    exit 1
  fi
  find -H "$2" -type l -exec readlink -e -- {} + 2>/dev/null | sort -u | while read -r target; do
    seen "$target" && continue
    echo "$1: a link in it leads to $target, and a step sees nothing of a claim but what its run names; put a copy" \\
      "of the file in place of the link" >&2
    exit 2
  done || exit 2
  shift 2
done
"""
"""What is not there ends the run. Any other fault of the look may pass, as that of an NFS server that was away does,
and is tried again.

Of POSIX's shell, since a run keeps the image that it was planned with, whatever that has of ours.

A link that leads nowhere in the whole claim leads nowhere for the step either, as it always did. One that leads out of
what is mounted would be passed over without a word: a folder's rows would be fewer.
"""


def sub_paths(
    plan: Plan, step: str, sources: Sequence[Source], *, workspace: str, settings: Settings
) -> list[Manifest]:
    """Returns the init containers of a step: this one, or none where nothing is to be made or found.

    Args:
        plan: of the run.
        step: one of plan.steps. The folder is there after prepare.
        sources: what the step reads.
        workspace: the claim of the workspace.
        settings: of the operator.
    """
    read = claims.named(source.uri for source in sources)
    makes = step == "prepare"
    if not makes and not read:
        return []
    return [
        {
            "name": CONTAINER,
            "image": plan.images.train or settings.images.train,
            "imagePullPolicy": settings.images.pull_policy,
            "command": [
                "sh",
                "-c",
                SCRIPT,
                "sh",
                path_of(plan) if makes else "",
                _mounted(read),
                *_looked_for(sources),
            ],
            "env": environment.values(scratch.variables()),
            # A quota wants it of each container; those of prepare, which has no devices, are never above the step's.
            "resources": step_resources(plan, "prepare", settings),
            "securityContext": pod_security.container_security(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                *([claims.whole_workspace()] if makes else []),
                *claims.whole(workspace, read),
                *scratch.mounts(),
            ],
        }
    ]


def _mounted(read: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(claims.path(claim, sub) for claim, subs in read.items() for sub in subs)


def _looked_for(sources: Sequence[Source]) -> list[str]:
    """Returns what to call each source, and where it is, in turns."""
    found: dict[str, str] = {}
    for source in sources:
        uri = uris.parse(source.uri)
        if uri.scheme == "pvc" and (sub := claims.sub_path(uri)):
            found.setdefault(f"{source.field}: {uri}" if source.field else str(uri), claims.path(uri.authority, sub))
    return [word for pair in found.items() for word in pair]
