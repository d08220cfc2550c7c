# SPDX-License-Identifier: Apache-2.0
"""Which files are read: one, or those of a mounted ConfigMap; none that is too large or not a regular file."""

import os
from pathlib import Path

import pytest

from kedastral.errors import ConfigError
from kedastral.settings.files import MAX_FILE_SIZE, read_config_files


def names_in(path: Path) -> list[str]:
    return [Path(file.name).name for file in read_config_files(path)]


def problems_with(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_config_files(path)
    return caught.value.problems


def test_a_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "settings.txt"
    path.write_bytes(b"a: 1")
    [file] = read_config_files(path)
    assert (file.name, file.content) == (str(path), b"a: 1")


def test_of_a_folder_its_own_yaml_files_are_read_by_name(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", ".hidden.yaml", "README.md", "..data.yaml"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.yaml").write_bytes(b"")

    assert names_in(tmp_path) == ["a.yaml", "b.yml"]


def mount(folder: Path, version: str, files: dict[str, bytes]) -> None:
    """What kubelet does with a ConfigMap."""
    (folder / version).mkdir()
    for name, content in files.items():
        (folder / version / name).write_bytes(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..next").symlink_to(version)
    (folder / "..next").replace(folder / "..data")


def test_a_configmap_is_read_once_and_as_of_one_moment(tmp_path: Path) -> None:
    mount(tmp_path, "..1", {"a.yaml": b"a: 1", "b.yaml": b"b: 1"})
    assert [file.content for file in read_config_files(tmp_path)] == [b"a: 1", b"b: 1"]

    mount(tmp_path, "..2", {"a.yaml": b"a: 2"})  # b.yaml is now a dangling link, until the kubelet removes it
    [file] = read_config_files(tmp_path)
    assert (file.name, file.content) == (str(tmp_path / "a.yaml"), b"a: 2")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * MAX_FILE_SIZE)
    assert len(read_config_files(path)) == 1
    path.write_bytes(b"#" * (10 * 1024 * 1024))
    assert problems_with(path) == (f"{path}: must be at most 1 MiB; split it",)


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    assert problems_with(tmp_path) == (
        f"{tmp_path}/folder.yaml: must be a file; it is a folder, a pipe or a device",
        f"{tmp_path}/gone.yaml: cannot be read (No such file or directory); fix it, or remove it",
        f"{tmp_path}/pipe.yaml: must be a file; it is a folder, a pipe or a device",
    )
    assert len(problems_with(Path("/dev/zero"))) == 1


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert problems_with(tmp_path) == (f"{tmp_path}: holds no file that ends in .yaml or .yml; put one there",)
    assert len(problems_with(tmp_path / "nothing")) == 1


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.yaml").touch()
    assert problems_with(tmp_path) == (f"{tmp_path}: must hold at most 1000 files, got 1001",)


def test_a_strange_name_stays_on_its_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.yaml").symlink_to("nowhere")
    assert problems_with(tmp_path)[0].startswith(f"{tmp_path}/a?b.yaml: cannot be read")
