"""`slipway submit`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.options import Context, Namespace, Sets, StartTimeout, start_within


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a TrainingRun; - is standard input.")],
    sets: Sets = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Look on until the run ends, with the exit codes of run.")
    ] = False,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="Of the pod that takes the files; the cluster's train image."),
    ] = None,
    context: Context = None,
    namespace: Namespace = None,
    start_timeout: StartTimeout = None,
) -> None:
    """Send the local files that a run names to a cluster, and run it there.

    Data goes to the workspace claim once, named by its content; the run is applied with pvc:// in the place of file://.
    """
    from slipway.choose_target import Wanted, cluster
    from slipway.cluster.submit import submission
    from slipway.exit_codes import BadInput

    within = start_within(start_timeout)
    if within is not None and not wait:
        raise BadInput("--start-timeout: nothing is waited for without --wait; give both, or leave it out")
    run = submission.load(file, sets or ())
    own = run.metadata.namespace
    if own is not None and namespace is not None and own != namespace:
        raise BadInput(f"{file}: metadata.namespace is {own}, and -n says {namespace}; leave out one of them")
    target = cluster(Wanted(context=context, namespace=namespace or own))
    submitted = submission.submit(target.kubectl, run, file.parent, image=image)
    print(submitted.told(target.title, target.kubectl.options))
    if not wait:
        if submitted.moves:
            print(target.command("watch", run.name))
        return
    from slipway.screen.watching import attend

    raise typer.Exit(attend(target, run.name, within))
