"""The lab's image store: OCI and docker archives taken apart into layers for overlayfs.

Nothing is ever downloaded. A layer is unpacked once, whatever images share it; an image is one small file.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from tulle.errors import LabError
from tulle.lab.layers import unpack

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_DIGEST: Final = re.compile(r"[a-z0-9]+:[0-9a-f]{32,128}")
_NAME_ANNOTATIONS: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
Json = dict[str, Any]


class ImageConfig(msgspec.Struct, frozen=True):
    """How an image wants to be run. ``environment`` has entries ``NAME=value``."""

    environment: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""


class StoredImage(msgspec.Struct, frozen=True):
    """``id`` is the digest of the image's own configuration; ``layers`` are digests, the lowest first."""

    name: str
    id: str
    layers: tuple[str, ...]
    config: ImageConfig


def normalised(reference: str) -> str:
    """The full name: ``busybox`` is ``docker.io/library/busybox:latest``."""
    name, at, digest = reference.partition("@")
    registry, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in registry or ":" in registry or registry == "localhost"):
        name = f"docker.io/{registry}/{rest}"
    if at:
        return f"{name}@{digest}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def layer_folder(store: Path, digest: str) -> Path:
    """Where a layer is unpacked. Raises ``LabError`` for what is no digest: it becomes part of a path."""
    if not _DIGEST.fullmatch(digest):
        raise LabError(f"{digest!r} is no digest; the archive is damaged")
    return store / "layers" / digest.replace(":", "-")


def read(store: Path, name: str) -> StoredImage | None:
    """The image with that full name, if it was loaded."""
    try:
        return msgspec.json.decode(_image_file(store, name).read_bytes(), type=StoredImage)
    except FileNotFoundError:
        return None


def load(store: Path, archive: Path) -> list[str]:
    """Takes in every image of the archive and returns their names. Raises ``LabError`` for what is none."""
    try:
        with _opened(archive) as tar:
            found = list(_manifests(tar))
            for image, blobs in found:
                for digest, blob in zip(image.layers, blobs, strict=True):
                    _store_layer(store, digest, tar, blob)
                file = _image_file(store, image.name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(msgspec.json.encode(image))
    except (tarfile.TarError, EOFError, KeyError, msgspec.MsgspecError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise LabError(f"{archive} is no OCI or docker archive: {reason}") from error
    return [image.name for image, _ in found]


def _image_file(store: Path, name: str) -> Path:
    return store / "names" / f"{re.sub(r'[^A-Za-z0-9.:-]', '_', name)}.json"


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as file, _decompressed(file) as plain, tarfile.open(fileobj=plain) as tar:
        yield tar


@contextmanager
def _decompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The same, or what zstd makes of it; the other compressions tarfile knows itself."""
    head = file.read(4)
    file.seek(0)
    if head != _ZSTD:
        yield file
        return
    if not shutil.which("zstd"):
        raise LabError(
            "the archive is compressed with zstd, which is not installed; install the package zstd"
        )
    done = subprocess.run(["zstd", "-dc"], stdin=file, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"zstd cannot unpack the archive: {done.stderr.decode(errors='replace').strip()}")
    yield io.BytesIO(done.stdout)


def _store_layer(store: Path, digest: str, tar: tarfile.TarFile, blob: str) -> None:
    folder = layer_folder(store, digest)
    if folder.exists():
        return
    draft = folder.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with _member(tar, blob) as packed, _decompressed(packed) as plain, tarfile.open(fileobj=plain) as layer:
        unpack(layer, draft)
    draft.rename(folder)


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise LabError(f"{name} in the archive is no file")
    return file


def _json(tar: tarfile.TarFile, name: str) -> Any:
    with _member(tar, name) as file:
        return msgspec.json.decode(file.read())


def _manifests(tar: tarfile.TarFile) -> Iterator[tuple[StoredImage, list[str]]]:
    """Each image with the names of its layers' members; docker's form first, as docker save writes both."""
    names = set(tar.getnames())
    if "manifest.json" in names:
        for entry in _json(tar, "manifest.json"):
            for tag in entry.get("RepoTags") or ():
                yield _image(tar, tag, entry["Config"]), entry["Layers"]
    elif "index.json" in names:
        yield from _oci(tar, _json(tar, "index.json"), "")
    else:
        raise LabError(
            "the archive has neither manifest.json nor index.json; make it with docker save or skopeo"
        )


def _oci(tar: tarfile.TarFile, index: Json, name: str) -> Iterator[tuple[StoredImage, list[str]]]:
    """Descends through nested indexes; a name may stand at any level."""
    for entry in index["manifests"]:
        annotations = entry.get("annotations", {})
        named = next((annotations[key] for key in _NAME_ANNOTATIONS if key in annotations), name)
        body = _json(tar, _blob(entry["digest"]))
        if "manifests" in body:
            yield from _oci(tar, body, named)
        elif not named:
            raise LabError(f"image {entry['digest']} has no name; give it one, as in oci-archive:FILE:NAME")
        elif "config" in body:
            layers = [_blob(layer["digest"]) for layer in body["layers"]]
            yield _image(tar, named, _blob(body["config"]["digest"])), layers


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _image(tar: tarfile.TarFile, name: str, config_member: str) -> StoredImage:
    """Layers are known by the digest of their plain content, which no compression changes."""
    body = _json(tar, config_member)
    run = body.get("config") or {}
    return StoredImage(
        name=normalised(name),
        id="sha256:" + hashlib.sha256(msgspec.json.encode(body)).hexdigest(),
        layers=tuple(body["rootfs"]["diff_ids"]),
        config=ImageConfig(
            environment=tuple(run.get("Env") or ()),
            entrypoint=tuple(run.get("Entrypoint") or ()),
            command=tuple(run.get("Cmd") or ()),
            user=run.get("User") or "",
            working_dir=run.get("WorkingDir") or "",
        ),
    )
