"""What a model was made of, step by step: endpoint, version, artifact, judgement, plan, data and base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from slipway import foreign_json
from slipway.records import files, statements
from slipway.records.files import Files
from slipway.records.lineage_graph import Edge, Lineage, Node
from slipway.records.record import Document, Record, of_files
from slipway_core.protocol.artifact import MANIFEST, ArtifactError, FileEntry, digest_of
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.status import RunStatus
from slipway_core.resources.training_run import TrainingRun

MOST_GENERATIONS = 32
"""Models that are followed from one to its base."""


class Reader(Protocol):
    """Where runs and endpoints are; a target is one."""

    def runs(self) -> list[TrainingRun]: ...

    def endpoints(self) -> list[ModelEndpoint]: ...

    def files(self, run: TrainingRun, names: Sequence[str]) -> Files: ...

    def folder(self, uri: str, names: Sequence[str]) -> Files: ...

    def statements(self, digest: str) -> Files: ...


def of_run(reader: Reader, run: TrainingRun, record: Record | None = None) -> Lineage:
    """Returns the lineage of what a run made, or will make.

    Args:
        record: what was read of it already.
    """
    walk = _Walk(reader)
    walk.served(_digest(run))
    top = walk.run(run, record)
    for version in [node.id for node in walk.nodes.values() if node.kind == "version"]:
        walk.join(version, top, "serves")
    return walk.found()


def of_endpoint(reader: Reader, endpoint: ModelEndpoint) -> Lineage:
    """Returns the lineage of what an endpoint serves, and of what it is about to."""
    walk = _Walk(reader)
    walk.endpoint(endpoint)
    return walk.found()


def of_uri(reader: Reader, uri: str) -> Lineage:
    """Returns the lineage of the model at a URI."""
    walk = _Walk(reader)
    walk.artifact(uri, None, None)
    return walk.found()


@dataclass
class _Walk:
    reader: Reader
    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    edges: list[Edge] = field(default_factory=list[Edge])
    known: list[TrainingRun] | None = None
    generations: int = 0

    def found(self) -> Lineage:
        return Lineage(tuple(self.nodes.values()), tuple(self.edges))

    def add(self, node: Node) -> str:
        self.nodes.setdefault(node.id, node)
        return node.id

    def join(self, source: str, target: str, label: str) -> None:
        edge = Edge(source, target, label)
        if edge not in self.edges:
            self.edges.append(edge)

    def runs(self) -> list[TrainingRun]:
        if self.known is None:
            self.known = self.reader.runs()
        return self.known

    def served(self, digest: str | None) -> None:
        """Adds the endpoints that serve a model, with the versions that are it."""
        for endpoint in self.reader.endpoints() if digest else ():
            status = endpoint.status
            for version in (status.live, status.candidate) if status else ():
                if version is not None and version.digest == digest:
                    self._version(endpoint, version)

    def endpoint(self, endpoint: ModelEndpoint) -> None:
        status = endpoint.status
        versions = [version for version in (status.live, status.candidate) if version is not None] if status else []
        for version in versions:
            self.join(
                self._version(endpoint, version), self.artifact(version.uri, version.digest, version.run), "serves"
            )
        told = endpoint.spec.model
        if told is not None and told.digest not in [version.digest for version in versions]:
            self.join(self._endpoint(endpoint), self.artifact(told.uri, told.digest, told.run), "spec.model")
        if told is None and not versions:
            top = self._endpoint(endpoint)
            self.nodes[top] = replace(self.nodes[top], missing="it was told no model yet")

    def _endpoint(self, endpoint: ModelEndpoint) -> str:
        name = endpoint.metadata.name
        phase = {"phase": endpoint.status.phase.value} if endpoint.status else {}
        return self.add(Node(f"endpoint/{name}", "endpoint", f"endpoint {name}", facts=phase))

    def _version(self, endpoint: ModelEndpoint, version: Any) -> str:
        top = self._endpoint(endpoint)
        facts = _facts(state=version.state, since=version.since, run=version.run, revision=version.revision)
        if version.accept_unjudged:
            facts["accepted"] = "without a verdict"
        title = f"version {version.version}"
        made = self.add(Node(f"{top}/{version.version}", "version", title, version.digest, facts))
        self.join(top, made, version.state.lower())
        return made

    def artifact(self, uri: str, digest: str | None, run: str | None) -> str:
        """Adds the model at a URI with all that it was made of."""
        for one in self._makers(uri, digest, run):
            return self.run(one)
        read = self.reader.folder(uri, [MANIFEST])
        manifest = _manifest(read)
        if digest is None and manifest:
            digest = str(manifest.get("digest"))
            for one in self._makers(uri, digest, run):
                return self.run(one)
        name = f"artifact/{digest or uri}"
        if name in self.nodes:
            return name
        gone = f"run {run} is not here any more, or has made another model since" if run else None
        if not manifest and run is None:
            gone = "no run and no endpoint here says what it was made of"
        why = "; ".join(filter(None, [_trouble(read, manifest), _not_as_recorded(manifest, digest), gone]))
        self.add(Node(name, "artifact", uri, digest, _of_manifest(manifest), why or None))
        self._statements(name, digest, manifest)
        if manifest:
            self._made_of(name, manifest, {}, {}, None)
        return name

    def _makers(self, uri: str, digest: str | None, run: str | None) -> list[TrainingRun]:
        """Returns the runs that made a model: the one that is named first."""
        made = [one for one in self.runs() if (artifact := _status(one).artifact) is not None
                and (artifact.digest == digest if digest else artifact.uri == uri)]  # fmt: skip
        return sorted(made, key=lambda one: one.name != run)

    def run(self, run: TrainingRun, record: Record | None = None) -> str:
        """Adds what a run made, with all that it was made of."""
        artifact = _status(run).artifact
        name = f"artifact/{artifact.digest}" if artifact else f"artifact/of-run/{run.name}"
        if name in self.nodes:
            return name
        record = record or of_files(run, self.reader.files(run, files.of_lineage()))
        manifest, digest = record.manifest, artifact.digest if artifact else None
        troubles = list(record.troubles)
        if artifact is None:
            troubles.append(f"the run has made none yet: it is {_status(run).phase.value}")
        elif not manifest and not troubles:
            troubles.append(f"its {files.MANIFEST_OF_ARTIFACT} is not there")
        if wrong := _not_as_recorded(manifest, digest):
            troubles.append(wrong)
        title = artifact.uri if artifact else f"the model of run {run.name}"
        self.add(Node(name, "artifact", title, digest, _of_manifest(manifest), "; ".join(troubles) or None))
        self._judgement(name, run, digest)
        self._statements(name, digest, manifest)
        self._made_of(name, manifest, record.plan, record.prepared, run)
        return name

    def _judgement(self, artifact: str, run: TrainingRun, digest: str | None) -> None:
        evaluation = _status(run).evaluation
        if evaluation is None:
            return
        other = evaluation.artifact_digest is not None and evaluation.artifact_digest != digest
        node = Node(
            f"{artifact}/judgement",
            "judgement",
            f"evaluation {evaluation.number}: {evaluation.verdict.value}",
            facts=_facts(
                gates=str(len(evaluation.metrics)),
                held_out=evaluation.data_digest,
                live_version=evaluation.baseline_digest,
                base=evaluation.to_document().get("baseDigest"),
            ),
            missing=f"it judged another model, {evaluation.artifact_digest}" if other else None,
        )
        self.join(artifact, self.add(node), "judged by")

    def _statements(self, artifact: str, digest: str | None, manifest: Document) -> None:
        """Adds the signed judgements of a model; that of its run's evaluation stands below that."""
        plan, maker = manifest.get("plan_digest"), manifest.get("run")
        found = self.reader.statements(digest) if digest else Files()
        for file, content in found.contents.items():
            self.join(
                artifact, self.add(statements.node(f"{artifact}/{file}", content, digest, plan, maker)), "stated by"
            )
        if found.trouble:
            self.nodes[artifact] = replace(
                self.nodes[artifact], missing="; ".join(filter(None, [self.nodes[artifact].missing, found.trouble]))
            )

    def _made_of(
        self, artifact: str, manifest: Document, plan: Document, prepared: Document, run: TrainingRun | None
    ) -> None:
        self._plan(artifact, manifest, plan, run)
        self._data(artifact, manifest, prepared)
        base = _mapping(_mapping(manifest.get("lineage")).get("base"))
        if not base and (model := _mapping(plan.get("model"))):
            base = {"scratch": model["scratch"]} if model.get("scratch") else {"uri": model.get("from")}
        if base:
            self._base(artifact, base)

    def _plan(self, artifact: str, manifest: Document, plan: Document, run: TrainingRun | None) -> None:
        recorded = _status(run).plan_digest if run is not None else None
        digest = _text(manifest.get("plan_digest")) or recorded or _text(plan.get("digest"))
        maker = run.name if run is not None else manifest.get("run")
        if digest is None and maker is None:
            return
        missing = None
        if not plan:
            missing = "its plan.json is not there: the manifest alone names it" if run is None else "it is not there"
        elif plan.get("digest") != digest:
            missing = f"the plan.json that lies there has the digest {plan.get('digest')}"
        stages = ", ".join(str(stage.get("name")) for stage in _mappings(plan.get("stages")))
        facts = _facts(run=maker, uid=_mapping(plan.get("run")).get("uid"), stages=stages)
        node = Node(f"plan/{maker}/{digest}", "plan", f"the plan of run {maker}", digest, facts, missing)
        self.join(artifact, self.add(node), "made by")

    def _data(self, artifact: str, manifest: Document, prepared: Document) -> None:
        digests: dict[str, Any] = dict(_mapping(manifest.get("data")))
        splits: dict[str, Document] = {}
        for stage, parts in _mapping(prepared.get("stages")).items():
            for split, found in _mapping(parts).items():
                if isinstance(found, Mapping) and found.get("digest"):
                    splits[f"{stage}/{split}"] = found
                    digests.setdefault(f"{stage}/{split}", found["digest"])
        for place, digest in digests.items():
            found = splits.get(place, {})
            missing = "which files it came from is not known: prepare.json is not there" if not found else None
            facts = _facts(rows=_count(found.get("rows")), tokens=_count(found.get("tokens")))
            node = Node(f"data/{place}/{digest}", "data", place, str(digest), facts, missing)
            self.join(artifact, self.add(node), "learned from")
            self._files(node.id, found)
        held = _mapping(prepared.get("evaluation"))
        if held.get("digest"):
            facts = _facts(documents=_count(held.get("documents")), dropped=_count(held.get("dropped")))
            node = Node(f"data/held-out/{held['digest']}", "data", "held out", str(held["digest"]), facts)
            judged = f"{artifact}/judgement"
            self.join(judged if judged in self.nodes else artifact, self.add(node), "judged on")
            self._files(node.id, held)
            self._files(node.id, _mapping(prepared.get("prompts")))

    def _files(self, data: str, found: Document) -> None:
        for file in _mappings(found.get("files")):
            name, sha = str(file.get("name") or file.get("uri")), file.get("sha256")
            facts = _facts(bytes=_count(file.get("bytes")), revision=file.get("revision"), license=file.get("license"))
            node = Node(f"file/{name}/{sha}", "file", name, f"sha256:{sha}" if sha else None, facts)
            self.join(data, self.add(node), "read from")

    def _base(self, artifact: str, base: Document) -> None:
        if base.get("scratch"):
            shape = _mapping(base["scratch"])
            facts = {name: str(one) for name, one in shape.items() if not isinstance(one, Mapping)}
            title = f"a new model ({shape.get('architecture', 'of its own settings')})"
            self.join(artifact, self.add(Node(f"{artifact}/base", "base", title, facts=facts)), "starts from")
            return
        if not base.get("uri"):
            where = "where it lay is not told: the manifest of a model that was pushed leaves it out"
            title, digest = str(base.get("name") or "a model"), _text(base.get("digest"))
            self.join(artifact, self.add(Node(f"{artifact}/base", "base", title, digest, missing=where)), "starts from")
            return
        uri, digest = str(base["uri"]), _text(base.get("digest"))
        node = Node(f"base/{uri}/{digest}", "base", uri, digest, _facts(revision=base.get("revision")))
        known = node.id in self.nodes
        self.join(artifact, self.add(node), "starts from")
        if known:
            return
        self.generations += 1
        if self.generations > MOST_GENERATIONS:
            self.nodes[node.id] = replace(node, missing=f"not followed further than {MOST_GENERATIONS} models")
            return
        maker = next((one for one in self.runs() if uri in (f"run://{one.name}", _uri(one))), None)
        if maker is not None:
            self.join(node.id, self.run(maker), "is")
            return
        read = self.reader.folder(uri, [MANIFEST])
        if manifest := _manifest(read):
            self.join(node.id, self.artifact(uri, _text(manifest.get("digest")), _text(manifest.get("run"))), "is")
        else:
            why = read.trouble or "it has no manifest of ours: what it was made of is not known"
            self.nodes[node.id] = replace(node, missing=why)


def _manifest(read: Files) -> Document:
    try:
        found = foreign_json.loads(read.contents.get(MANIFEST, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _trouble(read: Files, manifest: Document) -> str | None:
    if read.trouble or manifest:
        return read.trouble
    damaged = MANIFEST in read.contents
    return f"its {MANIFEST} is damaged" if damaged else f"it has no {MANIFEST}: what it was made of is not known"


def _not_as_recorded(manifest: Document, digest: str | None) -> str | None:
    """Says where a manifest is not that of the model that was recorded, or not that of its own files."""
    if not manifest:
        return None
    if digest is not None and manifest.get("digest") != digest:
        return f"what lies there has the digest {manifest.get('digest')}, and {digest} was recorded"
    try:
        listed = {str(name): FileEntry.model_validate(one) for name, one in _mapping(manifest.get("files")).items()}
    except (ValueError, ArtifactError):
        return "its manifest is damaged: its list of files cannot be read"
    return None if digest_of(listed) == manifest.get("digest") else "its manifest's digest is not that of its files"


def _of_manifest(manifest: Document) -> dict[str, str]:
    entries = [one for one in _mapping(manifest.get("files")).values() if isinstance(one, Mapping)]
    size = sum(size for one in entries if isinstance(size := one.get("size"), int))
    figures = _mapping(manifest.get("metrics"))
    return _facts(
        created=manifest.get("created_at"),
        files=_count(len(entries)) if entries else None,
        bytes=_count(size) if entries else None,
        parameters=_count(figures.get("parameters")),
        tokenizer=_mapping(manifest.get("lineage")).get("tokenizer"),
    )


def _facts(**facts: Any) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _count(value: Any) -> str | None:
    return f"{value:,.0f}" if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mappings(value: Any) -> list[Document]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _mapping(value: Any) -> Document:
    return value if isinstance(value, Mapping) else {}


def _status(run: TrainingRun | None) -> RunStatus:
    return (run.status if run is not None else None) or RunStatus()


def _digest(run: TrainingRun) -> str | None:
    artifact = _status(run).artifact
    return artifact.digest if artifact else None


def _uri(run: TrainingRun) -> str | None:
    artifact = _status(run).artifact
    return artifact.uri if artifact else None
