import platform
import subprocess
import sys

import pytest
import torch

from cxr_isnet.tracking.environment import environment, git_commit


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("one = 1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_it_names_the_versions_that_decide_numbers():
    found = environment()

    assert found["python"] == platform.python_version()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert all(isinstance(value, str) for value in found.values())


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules[environment.__module__], "PACKAGES", ("no-such-package",))

    assert environment()["no-such-package"] == "not installed"


def test_the_commit_of_the_repository_of_a_package_is_found(repository):
    assert len(git_commit(repository / "package")) == 40


def test_a_changed_file_makes_the_commit_dirty(repository):
    (repository / "package" / "module.py").write_text("one = 2\n")

    assert git_commit(repository / "package").endswith("-dirty")


def test_a_package_deeper_in_somebody_elses_repository_has_no_commit(repository):
    installed = repository / "environment" / "package"
    installed.mkdir(parents=True)

    assert git_commit(installed) is None


def test_without_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert git_commit(tmp_path) is None


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")

    assert git_commit(repository / "package") is None
