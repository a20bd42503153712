"""What is in the wheel and in the source archive. `make test-wheel` installs the wheel and runs it."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from cxr_isnet import __version__

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).resolve().parents[1]


def build(project: Path, target: str, output: Path) -> Path:
    """Builds a `wheel` or an `sdist` with the backend that pip would call, but without a download."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(output)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(PROJECT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The unpacked source archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build(PROJECT, "sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(folder: str, below: str = "") -> set[str]:
    """Files of a folder of the clone, as the wheel is to have them."""
    paths = [path for path in (PROJECT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {f"{below}{path.relative_to(PROJECT).as_posix()}" for path in paths}


def test_the_wheel_has_the_package_with_its_templates_schema_and_types(wheel):
    found = {name for name in names(wheel) if ".dist-info/" not in name and "/_shipped/" not in name}

    assert found == files("cxr_isnet")
    assert {"cxr_isnet/py.typed", "cxr_isnet/evaluation/study.schema.json"} <= found
    assert {Path(name).suffix for name in found if "/templates/" in name} == {".html", ".md"}


def test_the_wheel_has_the_recipes_and_the_column_mappings(wheel):
    found = {name for name in names(wheel) if "/_shipped/" in name}

    assert found == {
        *files("pipelines", "cxr_isnet/_shipped/"),
        *files("data_manifests", "cxr_isnet/_shipped/"),
    }
    assert "cxr_isnet/_shipped/pipelines/demo.yaml" in found


def test_the_wheel_says_its_version_licence_and_command(wheel):
    info = f"cxr_isnet-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE")
        commands = archive.read(f"{info}/entry_points.txt").decode()

    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence == (PROJECT / "LICENSE").read_bytes()
    assert "cxr-isnet = cxr_isnet.cli:main" in commands


def test_the_source_archive_builds_the_same_wheel(source, wheel, tmp_path):
    assert names(build(source, "wheel", tmp_path)) == names(wheel)


def test_the_source_archive_has_the_tests_and_no_results(source):
    assert (source / "tests" / "test_wheel.py").is_file()
    assert not [path for path in source.rglob("*") if path.suffix in (".pt", ".db")]
