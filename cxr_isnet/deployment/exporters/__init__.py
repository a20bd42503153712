"""The formats that a classifier is exported to, one file each. A new one is a file here and a line below."""

from cxr_isnet.config import choose
from cxr_isnet.deployment.exporter import Exporter
from cxr_isnet.deployment.exporters import bundle, onnx, pt2

EXPORTERS: tuple[Exporter, ...] = (pt2.EXPORTER, onnx.EXPORTER, bundle.EXPORTER)
"""All exporters, in the order in which they are listed."""


def find_exporter(name: str) -> Exporter:
    """The exporter of this name; raises `InputError` naming the choices."""
    return choose("format", name, EXPORTERS)
