"""Signed judgements as a lineage shows them. Whether a signature holds is for who has the keys to say: not here."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from slipway import foreign_json
from slipway.records.lineage_graph import Node


def node(id_: str, envelope: bytes, digest: str | None, plan: Any, maker: Any = None) -> Node:
    """Returns what a DSSE envelope says.

    Args:
        digest: of the model that it was kept for.
        plan: digest of the plan by that model's manifest, where that is known.
        maker: name of the run of that plan. Other runs may have judged the same model, by plans of their own.
    """
    try:
        outer = foreign_json.loads(envelope)
        payload = base64.b64decode(outer["payload"], validate=True)
        inner = foreign_json.loads(payload)
        predicate, subject = inner["predicate"], f"sha256:{inner['subject'][0]['digest']['sha256']}"
        key, judged = outer["signatures"][0]["keyid"], predicate.get("judgedAt")
    except (ValueError, binascii.Error, KeyError, IndexError, TypeError, AttributeError):
        return Node(id_, "statement", "a statement", missing="it is damaged: no signed statement can be read from it")
    title = f"statement on evaluation {predicate.get('evaluation')}: {predicate.get('verdict')}"
    facts = {
        "judged": judged,
        "key": key,
        "run": _name(predicate.get("run")),
        **_judge(predicate.get("judge")),
        **_data(predicate.get("data")),
    }
    shown = {name: str(value) for name, value in facts.items() if value}
    troubles: list[str] = []
    if digest is not None and subject != digest:
        troubles.append(f"it is about another model, {subject}")
    other = maker is not None and facts["run"] not in (None, maker)
    if plan is not None and not other and predicate.get("plan") not in (None, plan):
        troubles.append(f"it names another plan, {predicate.get('plan')}")
    stated = "sha256:" + hashlib.sha256(payload).hexdigest()
    return Node(
        id_, "statement", title, stated, {**shown, "signature": "not checked here"}, "; ".join(troubles) or None
    )


def _data(data: Any) -> dict[str, Any]:
    """Returns what was signed of the data, by where it was learned from; that of a model whose run is gone stands
    nowhere else."""
    if not isinstance(data, Mapping):
        return {}
    learned = data.get("training")
    return {"held_out": data.get("heldOut"), **(dict(learned) if isinstance(learned, Mapping) else {})}


def _name(run: Any) -> Any:
    return run.get("name") if isinstance(run, Mapping) else None


def _judge(judge: Any) -> dict[str, Any]:
    """Returns who judged, of a statement that says it."""
    if not isinstance(judge, Mapping) or not judge.get("model"):
        return {}
    return {"judge": f"{judge['model']} at {judge.get('url')}", "criteria": judge.get("criteria")}
