"""The command line. Its commands import what they need when they run, so that --help answers at once."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from slipway.commands.approve import approve
from slipway.commands.chat import chat
from slipway.commands.compare import compare
from slipway.commands.doctor import doctor
from slipway.commands.lineage import lineage
from slipway.commands.logs import logs
from slipway.commands.ls import ls
from slipway.commands.plan import plan
from slipway.commands.plot import plot
from slipway.commands.preview import preview
from slipway.commands.reevaluate import reevaluate
from slipway.commands.report import report
from slipway.commands.resume import resume
from slipway.commands.rm import rm
from slipway.commands.run import run
from slipway.commands.status import status
from slipway.commands.stop import stop
from slipway.commands.submit import submit
from slipway.commands.validate import validate
from slipway.commands.verify import verify
from slipway.commands.watch import watch


class _Group(TyperGroup):
    """Lists the commands in the order in which one needs them, and turns errors into a paragraph and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # Whoever read the output has left; Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort | TyperException) or "SLIPWAY_DEBUG" in os.environ:
                raise
            raise typer.Exit(_report(error)) from None


def _report(error: Exception) -> int:
    """Says what went wrong in a paragraph and returns the exit code."""
    from slipway import exit_codes
    from slipway.local.runs.admission import Refused
    from slipway.local.state import BusyError, StateError
    from slipway.screen.visible import visible
    from slipway_core.documents.loading import DocumentError
    from slipway_core.resources.uris import UriError

    message, code = str(error), exit_codes.FAILED
    match error:
        case exit_codes.CliError():
            code = error.code
        case BusyError():
            pass
        case DocumentError() | UriError() | StateError() | Refused():
            code = exit_codes.BAD_INPUT
        case OSError():
            message = f"{error.filename}: {error.strerror}" if error.filename else message
            message += _remedy(error)
        case _:
            name = type(error).__name__
            message = f"a mistake in slipway itself: {name}: {message}\nSLIPWAY_DEBUG=1 shows where; please report it."
    # It may name a file, or quote a row, that steers a terminal.
    print(visible(message), file=sys.stderr)
    return code


def _remedy(error: OSError) -> str:
    import errno

    from slipway_host.files import is_full

    if is_full(error):
        return "; free space there, and the same command goes on from the last checkpoint"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "; choose a folder that this user may write to with --workdir"
    return ""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"slipway {version('slipway')}")
        raise typer.Exit


# Without rich, help appears in a third of the time.
app = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def slipway(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From data to a live, judged chat API.

    Runs, models and endpoints of a folder are kept in its .slipway; those of a cluster are its resources.
    """


for command in (
    run, submit, validate, preview, plan, status, watch, logs, plot, report, compare, lineage, chat, doctor, reevaluate,
    verify, approve,
    stop, resume, ls, rm,
):  # fmt: skip
    app.command()(command)


def kubectl_plugin() -> None:
    """`kubectl slipway`: the same commands, about the cluster where nothing else is said."""
    os.environ.setdefault("SLIPWAY_LOCAL", "0")
    app(prog_name="kubectl slipway")
