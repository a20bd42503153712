"""Optional packages of others, for the tests that use the real ones."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


def torchvision() -> ModuleType:
    """torchvision; one built for another torch lacks its compiled operators, which no classification network uses."""
    try:
        return pytest.importorskip("torchvision")
    except RuntimeError:
        name = "torchvision._meta_registrations"
        sys.modules[name] = ModuleType(name)
    return pytest.importorskip("torchvision")


def timm() -> ModuleType:
    """timm, which imports torchvision; the test is skipped where it is not installed."""
    torchvision()
    return pytest.importorskip("timm")
