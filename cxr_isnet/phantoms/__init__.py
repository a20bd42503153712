"""Synthetic hospitals: phantom chest X-rays as DICOM files with lung masks and a manifest, without any patient."""

from cxr_isnet.phantoms.glyphs import Corner
from cxr_isnet.phantoms.hospitals import PHANTOM_HOSPITALS, PhantomHospital
from cxr_isnet.phantoms.writer import write_hospital, write_study

__all__ = ["PHANTOM_HOSPITALS", "Corner", "PhantomHospital", "write_hospital", "write_study"]
