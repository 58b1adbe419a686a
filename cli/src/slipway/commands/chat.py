"""`slipway chat`"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Context, Local, Namespace, Workdir

if TYPE_CHECKING:
    from slipway.choose_target import Wanted
    from slipway.talk.conversation import Conversation
    from slipway.target import Reached


def chat(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|URL]", help="An endpoint, a run, or an address; what serves here when left out."),
    ] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Ask this alone and leave.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="Instructions before the conversation.")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=1, help="Longest answer in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, max=2, help="0 always takes the likeliest.")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1)] = None,
    workdir: Workdir = HERE,
    local: Local = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Talk with a served model.

    /clear forgets the conversation; exit, quit, 退出 or Ctrl-D leave; Ctrl-C stops an answer. What a model thinks
    first is shown dimmed, at a terminal alone. A key is taken from the environment variable SLIPWAY_API_KEY.
    """
    import os

    import httpx

    from slipway.choose_target import Wanted
    from slipway.talk.chat_client import ChatClient
    from slipway.talk.conversation import Conversation

    key = os.environ.get("SLIPWAY_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    # A small model on a busy CPU takes its time before the first word.
    timeout = httpx.Timeout(connect=5, read=600, write=30, pool=5)
    settings = {"max_length": max_length, "temperature": temperature, "top_p": top_p}
    with (
        _reach(target, Wanted(workdir, local, context, namespace)) as server,
        # trust_env: a proxy of the environment has no way to this machine's loopback address.
        httpx.Client(
            base_url=server.url,
            headers=headers,
            timeout=timeout,
            transport=server.transport,
            trust_env=not _is_local(server.url),
        ) as http,
    ):
        thought = _write_dim if sys.stdout.isatty() else None
        talk = Conversation(ChatClient(http), _write, settings, write_thought=thought)
        if system:
            talk.history.append({"role": "system", "content": system})
        if message is not None:
            _ask_once(talk, message)
        else:
            _talk(talk, server.title)


def _ask_once(talk: Conversation, message: str) -> None:
    from slipway.exit_codes import BadInput, CliError
    from slipway.talk.chat_client import ChatError

    if not message.strip():
        raise BadInput("--message: is empty; say something")
    try:
        talk.say(message)
    except ChatError as error:
        raise CliError(str(error)) from None


def _talk(talk: Conversation, title: str) -> None:
    terminal = sys.stdin.isatty()
    if terminal:
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  line editing and a history of lines for input()
        from slipway.talk.conversation import HELP

        print(f"{title}  {HELP}")
    while True:
        try:
            line = input("> " if terminal else "")
        except EOFError:
            if terminal:
                print()
            return
        except KeyboardInterrupt:
            print("\nexit, quit, 退出 or Ctrl-D leave")
            continue
        # A terminal that is not UTF-8 gives bytes that no JSON can hold.
        if not talk.hear(line.encode("utf-8", "replace").decode()):
            return


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_dim(text: str) -> None:
    _write(f"\x1b[2m{text}\x1b[22m")


def _is_local(url: str) -> bool:
    import httpx

    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def _reach(target: str | None, wanted: Wanted) -> AbstractContextManager[Reached]:
    """Opens a way to an address or to what serves in a target. Raises BadInput that says what serves."""
    from slipway.choose_target import choose
    from slipway.target import Reached

    url = None
    if target is not None and "://" in target:
        url = target.rstrip("/") + "/"
    elif target is not None and (":" in target or target == "localhost"):
        url = f"http://{target.rstrip('/')}/"
    if url is not None:
        return nullcontext(Reached(url, url))
    return choose(wanted, target).reach(target)
