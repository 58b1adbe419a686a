"""A real browser without a window, driven by its own protocol (Chrome DevTools)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ENOUGH = 30.0
"""Seconds that a busy machine may take for an answer."""


def found() -> str | None:
    """Returns the program, None where this machine has none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. Used as a context manager of asyncio."""

    def __init__(self, program: str) -> None:
        self._program, self._ids = program, itertools.count(1)
        self.requests: list[str] = []
        """Addresses that were asked for."""
        self.said: list[str] = []
        """What the page wrote on the console, errors and refusals too."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="slipway-browser-")
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-address=127.0.0.1", "--remote-debugging-port=0",
            f"--user-data-dir={self._folder}", "about:blank",
        ]  # fmt: skip
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(self._program, *options, stdout=quiet, stderr=quiet)
        self._http = aiohttp.ClientSession()
        try:
            self._socket = await self._http.ws_connect(await self._tab(), max_msg_size=0)
        except BaseException:
            await self.__aexit__()
            raise
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _tab(self) -> str:
        """Returns where the tab is talked to."""
        async with asyncio.timeout(ENOUGH):
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, StopIteration, IndexError):
                    told = await asyncio.to_thread(Path(self._folder, "DevToolsActivePort").read_text)
                    async with self._http.get(f"http://127.0.0.1:{told.split()[0]}/json/list") as answer:
                        tabs = await answer.json()
                    return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
                await asyncio.sleep(0.1)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns what the browser answers. Raises AssertionError for a refusal."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(ENOUGH):
            while True:
                told = await self._socket.receive_json()
                if told.get("id") == number:
                    assert "error" not in told, told
                    return told["result"]
                self._hear(told)

    def _hear(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        match told.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled" | "Log.entryAdded" | "Runtime.exceptionThrown":
                self.said.append(str(params))
            case "Page.javascriptDialogOpening":
                self.said.append(f"dialog: {params['message']}")
            case _:
                pass

    async def open(self, page: Path) -> None:
        await self.call("Page.navigate", url=page.as_uri())
        async with asyncio.timeout(ENOUGH):
            while True:
                if await self.run("document.readyState + location.pathname") == f"complete{page}":
                    return
                await asyncio.sleep(0.05)

    async def run(self, script: str) -> Any:
        """Returns the value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def size(self, wide: int, high: int = 900) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=wide, height=high, deviceScaleFactor=1, mobile=wide < 600
        )

    async def press(self, key: str) -> None:
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
