"""Archives that are taken in, images that are not there, and layers that would break out."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from livelab import Cluster, Pods, container_status, tulle_lab, waits_for

from tulle.errors import LabError
from tulle.lab.images import ImageConfig, layer_folder, load, read
from tulle.lab.layers import unpack

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char folder[256];
    printf("%s %s %d %s\\n", argv[1], getenv("COLOR"), getuid(), getcwd(folder, sizeof folder));
    fflush(stdout);
    while (1) pause();
}
"""
CONFIG = {
    "Env": ["COLOR=blue"],
    "Entrypoint": ["/program"],
    "Cmd": ["hello"],
    "User": "worker",
    "WorkingDir": "/work",
}


def layer(files: dict[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in folders:
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def write(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def docker_archive(path: Path, name: str, layers: list[bytes], config: object = None) -> Path:
    body = json.dumps({"config": config or CONFIG, "rootfs": {"diff_ids": [digest(each) for each in layers]}})
    files = {f"{i}/layer.tar": each for i, each in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(files)}]
    members = {"manifest.json": json.dumps(manifest).encode(), "config.json": body.encode(), **files}
    return write(path, members)


def oci_archive(path: Path, name: str, layers: list[bytes]) -> Path:
    """Compressed layers, as registries hold them, in an archive that is compressed again."""
    packed = [gzip.compress(each, mtime=0) for each in layers]
    rootfs = {"diff_ids": [digest(each) for each in layers]}
    config = json.dumps({"config": CONFIG, "rootfs": rootfs}).encode()
    manifest = json.dumps(
        {"config": {"digest": digest(config)}, "layers": [{"digest": digest(each)} for each in packed]}
    ).encode()
    annotations = {"io.containerd.image.name": name}
    index = {"manifests": [{"digest": digest(manifest), "annotations": annotations}]}
    blobs = {"blobs/" + digest(each).replace(":", "/"): each for each in (config, manifest, *packed)}
    return write(path, {"index.json": json.dumps(index).encode(), **blobs}, "w:gz")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-static", "-o", folder / "main", folder / "main.c"], check=True)
    return (folder / "main").read_bytes()


@pytest.mark.parametrize("make", [docker_archive, oci_archive])
async def test_a_pod_runs_an_image_that_was_loaded(
    lab: Cluster, pods: Pods, program: bytes, tmp_path: Path, make: object
) -> None:
    name = f"example.com/{make.__name__.replace('_', '-')}"  # type: ignore[attr-defined]
    base = layer({"etc/passwd": b"worker:x:1234:1234::/:/\n", "gone": b"x"}, ("etc", "work"))
    archive = make(tmp_path / "image.tar", name, [base, layer({"program": program, ".wh.gone": b""})])  # type: ignore[operator]
    assert lab.tulle("load", str(archive)).stdout == f"{name}:latest\n"
    await pods.create("p", image=name, args=["hi"])
    await pods.ready("p")
    assert lab.kubectl("logs", "-n", pods.namespace, "p").stdout == "hi blue 1234 /work\n"


async def test_an_image_that_is_not_there_says_how_to_load_it(
    lab: Cluster, pods: Pods, program: bytes, tmp_path: Path
) -> None:
    await pods.create("p", image="example.com/later")
    pod = await pods.until("p", waits_for("ErrImageNeverPull"))
    message = container_status(pod)["state"]["waiting"]["message"]
    assert f"tulle lab load --name {lab.name} FILE" in message
    assert any("tulle lab load" in event for event in await pods.events("p"))
    config = {"Entrypoint": ["/program"], "Cmd": ["x"], "Env": ["COLOR=red"]}
    archive = docker_archive(tmp_path / "i.tar", "example.com/later", [layer({"program": program})], config)
    lab.tulle("load", str(archive))
    await pods.ready("p")


def test_layers_become_folders_with_whiteouts(tmp_path: Path) -> None:
    content = layer({"a/file": b"x", "a/.wh.old": b"", "b/.wh..wh..opq": b""}, ("a", "b"))
    archive = docker_archive(tmp_path / "i.tar", "x:1", [content])
    assert load(tmp_path / "store", archive) == ["docker.io/library/x:1"]
    folder = layer_folder(tmp_path / "store", digest(content))
    assert (folder / "a/file").read_bytes() == b"x"
    assert (folder / "a/old").is_char_device()
    assert os.getxattr(folder / "b", "trusted.overlay.opaque") == b"y"
    stored = read(tmp_path / "store", "docker.io/library/x:1")
    assert stored and stored.config == ImageConfig(
        ("COLOR=blue",), ("/program",), ("hello",), "worker", "/work"
    )


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "members",
    [
        [tarfile.TarInfo("../escape")],
        [tarfile.TarInfo("a/../../escape")],
        [link("out", "/"), tarfile.TarInfo("out/escape")],
        [link("out", ".."), tarfile.TarInfo("out/escape")],
        [link("hard", "../outside", tarfile.LNKTYPE)],
        [link("out", ".."), link("hard", "out/outside", tarfile.LNKTYPE)],
    ],
)
def test_a_layer_that_would_break_out_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    (tmp_path / "outside").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b""))
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar, pytest.raises(LabError, match="may lead out"):
        unpack(tar, root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]


def test_an_absolute_name_stays_inside(tmp_path: Path) -> None:
    buffer = io.BytesIO(layer({"/etc/passwd": b"x"}))
    with tarfile.open(fileobj=buffer) as tar:
        unpack(tar, tmp_path)
    assert (tmp_path / "etc/passwd").read_bytes() == b"x"


@pytest.mark.parametrize(
    "members",
    [
        {"manifest.json": b"[{]"},
        {"readme": b"x"},
        {"manifest.json": b'[{"RepoTags": ["x"], "Config": "no", "Layers": []}]'},
        {"index.json": b'{"manifests": [{"digest": "sha256:00"}]}'},
    ],
)
def test_what_is_no_image_archive_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(LabError):
        load(tmp_path / "store", write(tmp_path / "i.tar", members))


def test_a_digest_that_is_a_path_is_refused(tmp_path: Path) -> None:
    body = b'{"config": {}, "rootfs": {"diff_ids": ["sha256:../../../x"]}}'
    manifest = b'[{"RepoTags": ["x"], "Config": "config.json", "Layers": ["l"]}]'
    archive = write(tmp_path / "i.tar", {"manifest.json": manifest, "config.json": body, "l": layer({})})
    with pytest.raises(LabError, match="no digest"):
        load(tmp_path / "store", archive)


def test_a_file_that_is_no_archive_is_one_line(lab: Cluster, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not a tar")
    done = tulle_lab("load", f"--name={lab.name}", str(tmp_path / "x"), check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
