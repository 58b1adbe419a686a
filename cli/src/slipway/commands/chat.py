"""`slipway chat`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.options import HERE, Workdir

if TYPE_CHECKING:
    from slipway.conversation import Conversation


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
) -> None:
    """Talk with a served model.

    /clear forgets the conversation; exit, quit, 退出 or Ctrl-D leave; Ctrl-C stops an answer. A key is taken from the
    environment variable SLIPWAY_API_KEY.
    """
    import os

    import httpx

    from slipway.chat_client import ChatClient
    from slipway.conversation import Conversation

    url = _address(target, workdir)
    key = os.environ.get("SLIPWAY_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    # A small model on a busy CPU takes its time before the first word.
    timeout = httpx.Timeout(connect=5, read=600, write=30, pool=5)
    settings = {"max_length": max_length, "temperature": temperature, "top_p": top_p}
    # trust_env: a proxy of the environment has no way to this machine's loopback address.
    with httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=not _is_local(url)) as http:
        talk = Conversation(ChatClient(http), _write, settings)
        if system:
            talk.history.append({"role": "system", "content": system})
        if message is not None:
            _ask_once(talk, message)
        else:
            _talk(talk, url)


def _ask_once(talk: Conversation, message: str) -> None:
    from slipway.chat_client import ChatError
    from slipway.exits import BadInput, CliError

    if not message.strip():
        raise BadInput("--message: is empty; say something")
    try:
        talk.say(message)
    except ChatError as error:
        raise CliError(str(error)) from None


def _talk(talk: Conversation, url: str) -> None:
    terminal = sys.stdin.isatty()
    if terminal:
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  line editing and a history of lines for input()
        from slipway.conversation import HELP

        print(f"{url}  {HELP}")
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


def _is_local(url: str) -> bool:
    import httpx

    return httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")


def _address(target: str | None, workdir: Path) -> str:
    """Returns the URL of a server. Raises BadInput that says what serves."""
    from slipway.exits import BadInput, CliError
    from slipway.local.state import State

    if target is not None and "://" in target:
        return target.rstrip("/") + "/"
    if target is not None and (":" in target or target == "localhost"):
        return f"http://{target.rstrip('/')}/"
    state = State.below(workdir)
    serving = {folder.name: folder for folder in state.endpoints() if folder.daemon() is not None}
    name = target
    if target is not None and target not in serving and state.run(target).exists():
        endpoint = state.run(target).status().endpoint
        name = endpoint.name if endpoint else target
    if name is None and len(serving) == 1:
        name = next(iter(serving))
    if name in serving:
        url = serving[name].status().url
        if url is None:
            raise CliError(f"endpoint {name} is still starting; `slipway status {name}` shows when it is live")
        return url.rstrip("/") + "/"
    known = f"these serve: {', '.join(serving)}" if serving else "nothing serves here; `slipway run FILE` changes that"
    raise BadInput(f"{name} does not serve; {known}" if name else f"name an endpoint or an address; {known}")
