"""A conversation in a terminal: what was said before, and the few words that are commands."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.talk.chat_client import Answer, ChatClient, ChatError, Piece, Turn

LEAVE = ("exit", "quit", "退出", "/exit", "/quit", "/退出")
HELP = "/clear forgets the conversation; exit, quit, 退出 or Ctrl-D leave; Ctrl-C stops an answer."


@dataclass
class Conversation:
    client: ChatClient
    write: Callable[[str], None]
    """Takes pieces of text as they come; flushes them."""
    settings: Mapping[str, Any]
    """max_length, temperature, top_p: see ChatClient.ask."""
    history: list[Turn] = field(default_factory=list)
    write_thought: Callable[[str], None] | None = None
    """Takes what a model thinks before it answers, where that is shown."""

    def hear(self, line: str) -> bool:
        """Does what a line asks for. Returns False when it asks to leave."""
        words = line.strip()
        match words:
            case "":
                return True
            case _ if words.lower() in LEAVE:
                return False
            case "/clear":
                self.history = [turn for turn in self.history if turn["role"] == "system"]
                self.write("The conversation is forgotten.\n")
            case "/help":
                self.write(HELP + "\n")
            case _:
                self._say(words)
        return True

    def _say(self, message: str) -> None:
        try:
            self.say(message)
        except ChatError as error:
            too_long = error.status in (400, 413, 422) and self.history
            hint = "\nThe conversation may be too long by now: /clear forgets it." if too_long else ""
            self.write(f"\n! {error}{hint}\n")

    def say(self, message: str) -> Answer:
        """Asks, writes the answer as it comes, and remembers both. Raises ChatError.

        Ctrl-C (KeyboardInterrupt) stops the answer; what was heard of it is remembered.
        """
        answer = self.client.ask(message, self.history, **self.settings)
        try:
            for piece in answer.pieces:
                self._show(piece, answer)
            self.write("\n")
            if answer.finish_reason == "length":
                tokens = answer.usage.get("completion_tokens", "its limit of")
                thinking = " while it was still thinking" if answer.reasoning and not answer.text else ""
                self.write(f"(cut at {tokens} tokens{thinking}; --max-length N allows more)\n")
        except KeyboardInterrupt:
            self.write("\n(stopped)\n")
        if answer.text:
            self.history += [{"role": "user", "content": message}, {"role": "assistant", "content": answer.text}]
        return answer

    def _show(self, piece: Piece, answer: Answer) -> None:
        if not piece.thought:
            if self.write_thought is not None and answer.reasoning and answer.text == piece.text:
                self.write_thought("\n\n")
            self.write(printable(piece.text))
        elif self.write_thought is not None:
            self.write_thought(printable(piece.text))


def printable(text: str) -> str:
    """Returns text without control characters: a model's output must not steer the terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
