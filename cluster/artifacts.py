"""Learned models: recorded and registered in MLflow, signed, and loaded only when every byte is what was signed.

The signature names owner, kind and run (cluster/model_files.py), so whoever can write to MLflow can neither alter a
model nor hand one tenant's model to another. Aliases say which version serves: `champion`, `challenger`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mlflow
import numpy.typing as npt
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from cluster.errors import Conflict, HubError, NotFound, Unavailable
from cluster.model_files import FILES, Arrays, ModelRefused, read_model, signing_key, write_model
from cluster.settings import Settings
from cluster.tenancy import TenantScope

# Owner of models that every tenant may score with; no tenant id has capitals.
SHARED: Final = "SHARED"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
EXPERIMENT: Final = "llmhub"
# Models kept on this node's disk beside MLflow; the longest unused go first.
CACHED_MAX: Final = 64

_FOLDER: Final = "model"
_PREVIOUS: Final = "previous_champion"
_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Record:
    """What a run tells of itself.

    Attributes:
        parameters: texts of at most 6,000 characters.
        metrics: figures by name; a sequence is one value a step.
        card: the model card, JSON.
        plots: PNG files by name.
    """

    parameters: Mapping[str, str]
    metrics: Mapping[str, float | Sequence[float]]
    card: Mapping[str, Any]
    plots: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A verified model; `arrays` and `configuration` are what `register` was given."""

    owner: str
    kind: str
    version: int
    run_id: str
    arrays: dict[str, npt.NDArray[Any]]
    configuration: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version, as MLflow tells it."""

    owner: str
    kind: str
    version: int
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


class ModelStore:
    """Models in MLflow; safe to use from several processes, not from several threads at once."""

    def __init__(self, tracking_uri: str, folder: Path, *, artifacts: str | None = None) -> None:
        """Opens nothing yet.

        Args:
            folder: of the hub; holds the signing key and the copies of models.
            artifacts: where runs keep files; None leaves it to the server.
        """
        # A bar for each of the few files of a model would bury what a job tells.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._folder, self.artifacts = folder, artifacts
        self._client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
        self._key = signing_key(folder)

    @classmethod
    def of(cls, settings: Settings) -> ModelStore:
        """The store of the hub with these settings."""
        return cls(f"http://127.0.0.1:{settings.mlflow_port}", settings.data.absolute())

    def register(
        self, owner: str, kind: str, record: Record, *, arrays: Arrays, configuration: Mapping[str, Any]
    ) -> int:
        """Record a run with a signed model and register it; the new version carries the alias `challenger`.

        Raises:
            Conflict: a file is over FILE_BYTES_MAX.
            Unavailable: MLflow does not answer.
        """
        with _mlflow_errors():
            run_id = self._client.create_run(self._experiment(), run_name=f"{owner} {kind}").info.run_id
            with tempfile.TemporaryDirectory() as scratch:
                names = {"owner": owner, "kind": kind, "run_id": run_id}
                write_model(Path(scratch), self._key, names, arrays=arrays, configuration=configuration)
                self._client.log_artifacts(run_id, scratch, _FOLDER)
            self._log(run_id, record)
            self._client.set_terminated(run_id)
            name = _name(owner, kind)
            if not self._client.search_registered_models(f"name = '{name}'"):
                self._client.create_registered_model(name)
            made = self._client.create_model_version(name, f"runs:/{run_id}/{_FOLDER}", run_id)
            self._client.set_registered_model_alias(name, CHALLENGER, made.version)
        return int(made.version)

    def promote(self, owner: str, kind: str, version: int, *, tags: Mapping[str, str] | None = None) -> None:
        """Make a version the champion, and note which one it was before.

        Raises:
            NotFound: no such version.
            Unavailable: MLflow does not answer.
        """
        name = _name(owner, kind)
        before = self.version_of(owner, kind, CHAMPION)
        with _mlflow_errors():
            for key, value in {**(tags or {}), _PREVIOUS: str(before or "")}.items():
                self._client.set_model_version_tag(name, str(version), key, value)
            self._client.set_registered_model_alias(name, CHAMPION, str(version))
            if self.version_of(owner, kind, CHALLENGER) == version:
                self._client.delete_registered_model_alias(name, CHALLENGER)

    def tag(self, owner: str, kind: str, version: int, tags: Mapping[str, str]) -> None:
        """Note something at a version.

        Raises:
            NotFound: no such version.
            Unavailable: MLflow does not answer.
        """
        with _mlflow_errors():
            for key, value in tags.items():
                self._client.set_model_version_tag(_name(owner, kind), str(version), key, value)

    def roll_back(self, owner: str, kind: str) -> int:
        """Make the champion before this one the champion again; its version.

        Raises:
            NotFound: there is no champion.
            Conflict: the champion had none before it.
        """
        now = self.version_of(owner, kind, CHAMPION)
        if now is None:
            raise NotFound(f"{kind} of {owner} has no champion")
        name = _name(owner, kind)
        with _mlflow_errors():
            before = self._client.get_model_version(name, str(now)).tags.get(_PREVIOUS, "")
            if not before:
                raise Conflict(f"version {now} of {kind} of {owner} is the first champion")
            self._client.set_registered_model_alias(name, CHAMPION, before)
        return int(before)

    def version_of(self, owner: str, kind: str, alias: str) -> int | None:
        """The version that carries an alias; None where none does."""
        try:
            return int(self._client.get_model_version_by_alias(_name(owner, kind), alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise _away(error) from error

    def champions(self, owner: str) -> dict[str, tuple[int, Mapping[str, str]]]:
        """Version and tags of each champion of an owner, by kind.

        Raises:
            Unavailable: MLflow does not answer.
        """
        found: dict[str, tuple[int, Mapping[str, str]]] = {}
        with _mlflow_errors():
            for model in self._client.search_registered_models(f"name LIKE '{owner}.%'", max_results=100):
                version = self.version_of(owner, model.name.partition(".")[2], CHAMPION)
                if version is not None:
                    tags = self._client.get_model_version(model.name, str(version)).tags
                    found[model.name.partition(".")[2]] = (version, dict(tags))
        return found

    def versions(self, scope: TenantScope) -> list[Version]:
        """Versions that the scope's tenants may score with, the newest 100 of each model."""
        owners = {*scope.tenants, SHARED}
        found = []
        with _mlflow_errors():
            for model in self._client.search_registered_models(max_results=1_000):
                owner, _, kind = model.name.partition(".")
                if owner not in owners:
                    continue
                aliases: dict[str, list[str]] = {}
                for alias, number in self._client.get_registered_model(model.name).aliases.items():
                    aliases.setdefault(str(number), []).append(alias)
                for one in self._client.search_model_versions(f"name = '{model.name}'", max_results=100):
                    held = tuple(sorted(aliases.get(str(one.version), [])))
                    metrics = dict(self._client.get_run(str(one.run_id)).data.metrics)
                    found.append(Version(owner, kind, int(one.version), str(one.run_id), held, dict(one.tags), metrics))
        return sorted(found, key=lambda one: (one.owner, one.kind, -one.version))

    def load(self, scope: TenantScope, kind: str, *, owner: str, version: int) -> Model:
        """A version, verified: from this node's copy, else from MLflow.

        Raises:
            NotFound: the scope does not cover the owner, or there is no such version.
            ModelRefused: it is not what was signed.
            Unavailable: MLflow does not answer.
        """
        if owner != SHARED and owner not in scope.tenants:
            raise NotFound(f"no {kind} model of that owner")
        name = _name(owner, kind)
        with _mlflow_errors():
            run_id = str(self._client.get_model_version(name, str(version)).run_id)
        folder = self._folder / "models" / name / str(version)
        if not folder.is_dir():
            self._fetch(run_id, folder)
        os.utime(folder)
        expected = {"owner": owner, "kind": kind, "run_id": run_id}
        try:
            arrays, configuration = read_model(folder, self._key, expected)
        except ModelRefused:
            # Should the copy be at fault rather than the store, the next try finds a new one.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Model(owner, kind, version, run_id, arrays, configuration)

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(EXPERIMENT)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=self.artifacts))

    def _log(self, run_id: str, record: Record) -> None:
        for name, value in record.parameters.items():
            self._client.log_param(run_id, name, value[:6_000])
        points = [
            Metric(name, float(value), 0, step)
            for name, values in record.metrics.items()
            for step, value in enumerate([values] if isinstance(values, int | float) else values)
        ]
        for start in range(0, len(points), 1_000):
            self._client.log_batch(run_id, metrics=points[start : start + 1_000])
        self._client.log_dict(run_id, dict(record.card), "card.json")
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in record.plots.items():
                path = Path(scratch, name)
                path.write_bytes(content)
                self._client.log_artifact(run_id, str(path), "plots")

    def _fetch(self, run_id: str, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._forget_old(folder.parent.parent)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
        try:
            # By fixed names: what else lies in the run is none of ours.
            for name in FILES:
                try:
                    held = Path(self._client.download_artifacts(run_id, f"{_FOLDER}/{name}", str(scratch)))
                except (MlflowException, OSError) as error:
                    raise ModelRefused(f"{name} of run {run_id} cannot be read") from error
                # Stores differ in whether they keep the folder of the artifact.
                held.rename(scratch / name)
            # Another process may have been first; its copy is as good.
            if not folder.exists():
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _forget_old(self, root: Path) -> None:
        kept = sorted(root.glob("*/[0-9]*"), key=lambda one: one.stat().st_mtime)
        for old in kept[: max(0, len(kept) + 1 - CACHED_MAX)]:
            shutil.rmtree(old, ignore_errors=True)


def _name(owner: str, kind: str) -> str:
    return f"{owner}.{kind}"


class _mlflow_errors:  # noqa: N801 - reads as the statement it is used in
    """Errors of MLflow inside this block as the hub's own."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MlflowException):
            raise _away(error) from error


def _away(error: MlflowException) -> HubError:
    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
        return NotFound("no such model version")
    return Unavailable(f"MLflow did not answer ({error.error_code})", retry_after_s=_RETRY_S)
