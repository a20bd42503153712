"""Environment of a run: package versions, platform, devices, git commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import cxr_isnet

PACKAGES = ("torch", "monai", "mlflow", "numpy", "pandas", "scikit-learn", "pydicom", "SimpleITK")
GIT_SECONDS = 5


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; platform, devices, git commit if any."""
    found = {
        "cxr_isnet": cxr_isnet.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": str(os.cpu_count()),
        "cuda_devices": ", ".join(_cuda_devices()) or "none",
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    commit = git_commit(Path(cxr_isnet.__file__).parent)
    return found | ({"git_commit": commit} if commit else {})


def git_commit(package: Path) -> str | None:
    """Commit of the repository whose root holds a package, with "-dirty" when tracked files differ.

    Args:
        package: folder of the package.

    Returns:
        The commit; None without git or outside such a repository (a package installed inside another repository).
    """
    try:
        root, commit = _git(package, "rev-parse", "--show-toplevel", "HEAD").split("\n")
        changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if Path(root) != package.resolve().parent:
        return None
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=GIT_SECONDS,
    )
    return done.stdout.strip()


def _cuda_devices() -> list[str]:
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
