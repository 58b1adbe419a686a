"""`slipway report`"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from slipway.options import HERE, Context, Lang, Local, Namespace, Workdir


def report(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The run; the newest one when left out.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a page (.html) with all of it.")
    ] = None,
    lang: Lang = "en",
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Show how a run was judged and why: gates, answers, curves, data and lineage.

    Reads what the run has left, and writes one page that needs nothing else. Of a run that is under way, or was not
    judged, it shows what there is.
    """
    from slipway.choose_target import Wanted, choose
    from slipway.records import files, record
    from slipway.screen.pages import output as out
    from slipway.screen.report.words import Language, Words
    from slipway.target import judgements

    out.require_page(output, "a report")
    target = choose(Wanted(workdir, local, context, namespace), name)
    run = target.run(name)
    found = record.of_files(run, target.files(run, files.of_run(run)), judgements(target, run))
    words = Words(Language(lang))
    if output is None:
        from slipway.screen.printing import console
        from slipway.screen.report import terminal

        terminal.show(found, words, console())
        return
    from slipway.records import lineage
    from slipway.screen.report import page, sentences

    text = page.page(found, lineage.of_run(target, run, found), words, datetime.now(UTC))
    out.write(output, text)
    print(f"{output}: {sentences.verdict(found, words)}")
