"""Writes what is made from the models: `python -m slipway_core.documents.generate [--check] [--root DIR]`.

The two CRDs, the editor's JSON schema and the API reference. `--check` writes nothing and exits 1 when one of them
differs.
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from slipway_core.documents import crd, reference
from slipway_core.documents.loading import KINDS
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

_HEAD = "# Written by `make generate` from the models in core/. Edit those.\n"


def files() -> dict[str, str]:
    """Returns the text of each generated file by its path below the root of the repository."""
    return {
        "charts/slipway/crds-generated/trainingruns.yaml": _yaml(crd.training_run(TrainingRun)),
        "charts/slipway/crds-generated/modelendpoints.yaml": _yaml(crd.model_endpoint(ModelEndpoint)),
        "docs/schema/slipway.schema.json": reference.editor_schema(dict(KINDS)),
        "docs/api.md": reference.api_reference(dict(KINDS)),
    }


def differing(root: Path) -> dict[str, str]:
    """Returns the text of each generated file that is missing or differs from what the models give, by its path."""
    return {path: text for path, text in files().items() if not _same(root / path, text)}


def write(root: Path) -> list[str]:
    """Writes the files that differ and returns their paths."""
    changed = differing(root)
    for path, text in changed.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return list(changed)


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _yaml(document: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.width = 120
    stream = StringIO()
    yaml.dump(document, stream)  # pyright: ignore[reportUnknownMemberType]
    return _HEAD + stream.getvalue()


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parents[4]
    if "--root" in arguments:
        root = Path(arguments[arguments.index("--root") + 1])
    if "--check" in arguments:
        for path in (changed := differing(root)):
            print(f"{path}: differs from the models in core/: run make generate", file=sys.stderr)
        return 1 if changed else 0
    for path in write(root):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
