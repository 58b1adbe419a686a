"""A judge model: a language model behind an OpenAI API that is asked how good answers are."""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Duration, Rule, ShortText, seconds
from slipway_core.resources.tracking import ServerUri

Compared = Literal["Live", "Base", "Reference"]
"""What an answer is put beside: the live version's, the base model's, or the one that its row has."""

_MODEL_PATTERN = r"^[^\x00-\x1f\x7f]+$"
_SOMETHING = r"\S"


def criteria_digest(criteria: str) -> str:
    """Returns the digest of the words by which a judge judged, as a statement and a report name them."""
    return f"sha256:{hashlib.sha256(criteria.encode(errors='surrogatepass')).hexdigest()}"


class Judge(Api):
    """Who judges answers, and by what."""

    rules: ClassVar = (
        Rule(
            "!self.url.contains('@')",
            "the url must hold no user and no password: put the key into the Secret that credentials names",
            lambda self: "@" not in self.url,
            "url",
        ),
        Rule(
            "!self.url.contains('/chat/completions')",
            "the url is that of the API, to which /chat/completions is added: http://judge.ml:8000/v1",
            lambda self: "/chat/completions" not in self.url,
            "url",
            lambda self: self.url,
        ),
        Rule(
            "!has(self.timeout) || self.timeout.matches('[1-9]')",
            "timeout must be longer than nothing, such as 1h",
            lambda self: seconds(self.timeout) > 0,
            "timeout",
            lambda self: self.timeout,
        ),
    )

    url: ServerUri
    """Where its OpenAI API begins: https://api.openai.com/v1, or http://judge.ml:8000/v1 in the cluster."""
    model: Annotated[str, Field(pattern=_MODEL_PATTERN, max_length=256)]
    """Its name there."""
    credentials: ShortText | None = None
    """Secret with the key JUDGE_API_KEY, which prepare and evaluate alone get. Locally, the environment is used. Left
    out, no key is sent."""
    criteria: Annotated[str, Field(pattern=_SOMETHING, max_length=8192)]
    """What makes an answer good, in words; they are put to the judge as they are."""
    scale: int = Field(default=10, ge=2, le=100)
    """The best mark of judge_score; the worst is 1, and marks are whole. In the figure the worst is 0 and the best is
    1."""
    compare: Compared | None = None
    """What win_rate compares an answer with: the live version's to the same prompt, the base model's, or the `answer`
    of the row. There is no default."""
    repeats: int = Field(default=1, ge=1, le=16)
    """How often each question is put. What is said of one prompt counts as one piece, however often it is asked."""
    max_new_tokens: int = Field(default=1024, ge=64, le=32768)
    """Longest reply in tokens, with what the judge thinks first. One that is cut says no verdict."""
    min_agreement: float = Field(default=0.6, ge=0, le=1)
    """Share of the comparisons that must come out alike in both orders, without which win_rate and the same judge's
    judge_score are inconclusive; and how near the repeats of a question must be to each other. A judge that throws a
    coin has about 0.5 in two orders."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Questions that are put at once."""
    timeout: Duration = "1h"
    """How long the judge is asked in all. What has no answer by then has none, and the gate is inconclusive."""
