"""Synthetic hospitals: phantom chest X-rays as DICOM files with lung masks and a manifest, without any patient."""

from cxr_isnet.phantoms.glyphs import Corner
from cxr_isnet.phantoms.hospitals import PhantomHospital
from cxr_isnet.phantoms.writer import write_hospital

__all__ = ["Corner", "PhantomHospital", "write_hospital"]
