"""`slipway verify`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir

if TYPE_CHECKING:
    from slipway.choose_target import Wanted
    from slipway.local.verifying import Asked
    from slipway.records.verification import Finding


def verify(
    what: Annotated[str, typer.Argument(metavar="NAME|FOLDER|URI", help="A run, an endpoint, a folder, or a URI.")],
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="Keys that are trusted, as JSON; else those of the .slipway, or of the cluster.",
        ),
    ] = None,
    statement: Annotated[
        list[Path] | None,
        typer.Option(
            "--statement",
            metavar="FILE",
            help="The statement; else those of the .slipway, or of the namespace, about the model.",
        ),
    ] = None,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
    output: Annotated[Literal["json"] | None, typer.Option("-o", "--output", help="Print it as JSON.")] = None,
) -> None:
    """Verify that a model is the one that was judged, and who says that it passed.

    Reads every byte; in a claim of a cluster by a pod there. Exit code 0 holds, 1 does not hold, 3 holds and the model
    did not pass.
    """
    import json

    from slipway.choose_target import Wanted
    from slipway.local.verifying import Asked

    asked = Asked(what, tuple(key or ()), tuple(statement or ()))
    found = _found(asked, Wanted(workdir, local, context, namespace))
    if output == "json":
        print(json.dumps(found.to_document(), ensure_ascii=False, indent=2))
    else:
        print("\n".join(found.lines()))
    raise typer.Exit(found.code)


def _found(asked: Asked, wanted: Wanted) -> Finding:
    """Verifies on this machine what lies here or is fetched, and on the cluster what lies there."""
    from slipway.choose_target import choose
    from slipway.cluster.target import ClusterTarget
    from slipway.local import verifying
    from slipway.local.state import State

    what = asked.what
    in_claim = what.startswith("pvc://")
    elsewhere = wanted.context or wanted.namespace or wanted.local is False
    near = ("://" in what and not in_claim) or (not in_claim and Path(what).is_dir())
    target = None if near and not elsewhere else choose(wanted, None if in_claim else what)
    if not isinstance(target, ClusterTarget):
        return verifying.verify(asked, State.below(wanted.workdir))
    from slipway.cluster.verifying import Wanted as Model
    from slipway.cluster.verifying import verify
    from slipway.exit_codes import BadInput
    from slipway.screen.printing import note

    if "://" in what and not in_claim:
        raise BadInput(f"{what}: is fetched and verified on this machine; leave out what names a cluster")
    uri, digest = (what, None) if in_claim else target.model_of(what)
    model = Model(what, uri, digest, verifying.given_keys(asked), verifying.given_statements(asked))
    return verify(target.kubectl, model, note)
