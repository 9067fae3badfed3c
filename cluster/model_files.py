"""Files of one learned model: arrays, configuration, and a manifest that is signed with the hub's own key.

Arrays are `.npz` without pickles, the configuration is JSON: reading a model never runs code of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cluster.errors import Conflict, HubError

Arrays = Mapping[str, npt.NDArray[Any]]

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_ARRAYS, _CONFIGURATION, _MANIFEST, _SIGNATURE = "arrays.npz", "configuration.json", "manifest.json", "manifest.hmac"
_SIGNED: Final = (_ARRAYS, _CONFIGURATION)
# Every file of a model.
FILES: Final = (*_SIGNED, _MANIFEST, _SIGNATURE)
_FORMAT: Final = 1
_KEY_BYTES: Final = 32


class ModelRefused(HubError):
    """A stored model is not what the hub signed: altered, of another owner or kind, or without a signature."""

    code = "model_refused"
    hint = "Move the alias `champion` back to an earlier version, or train the model again."


def signing_key(folder: Path) -> bytes:
    """The key in `models.key` of the hub's folder, made by whoever asks first; only its owner can read it."""
    path = folder / "models.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Made with mode 600.
        number, scratch = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(secrets.token_hex(_KEY_BYTES).encode())
                file.flush()
                os.fsync(file.fileno())
            # A link fails where another process was first; a rename would replace a key in use.
            os.link(scratch, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(scratch)
    return bytes.fromhex(path.read_text())


def write_model(
    folder: Path, key: bytes, names: Mapping[str, str], *, arrays: Arrays, configuration: Mapping[str, Any]
) -> None:
    """Write FILES.

    Args:
        names: what the signature shall say of the model, as owner and kind.

    Raises:
        Conflict: a file would be over FILE_BYTES_MAX.
    """
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    files = {_ARRAYS: content.getvalue(), _CONFIGURATION: json.dumps(configuration, sort_keys=True).encode()}
    for name, held in files.items():
        if len(held) > FILE_BYTES_MAX:
            raise Conflict(f"{name} has {len(held)} bytes; {FILE_BYTES_MAX} are allowed", hint="Fit a smaller model.")
    digests = {name: hashlib.sha256(held).hexdigest() for name, held in files.items()}
    files[_MANIFEST] = json.dumps({"format": _FORMAT, **names, "sha256": digests}, sort_keys=True).encode()
    files[_SIGNATURE] = _signature(key, files[_MANIFEST])
    for name, held in files.items():
        (folder / name).write_bytes(held)


def read_model(
    folder: Path, key: bytes, names: Mapping[str, str]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Arrays and configuration, read only after signature, names and digests were found right.

    Raises:
        ModelRefused: a file is absent, too large or altered, or the signature is of other names or another key.
    """
    manifest = _content(folder / _MANIFEST)
    if not hmac.compare_digest(_signature(key, manifest), _content(folder / _SIGNATURE)):
        raise ModelRefused("the signature of the manifest does not fit")
    said = json.loads(manifest)
    for name, value in {"format": _FORMAT, **names}.items():
        if said.get(name) != value:
            raise ModelRefused(f"the manifest is of another {name}")
    files = {name: _content(folder / name) for name in _SIGNED}
    for name, held in files.items():
        if said["sha256"].get(name) != hashlib.sha256(held).hexdigest():
            raise ModelRefused(f"{name} was altered")
    with np.load(io.BytesIO(files[_ARRAYS]), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads(files[_CONFIGURATION])


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ModelRefused(f"{path.name} is over {FILE_BYTES_MAX} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"{path.name} is not there") from error


def _signature(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).hexdigest().encode()
