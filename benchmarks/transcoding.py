"""DICOM files of any transfer syntax, made from uncompressed ones."""

import zlib  # noqa: F401  GDCM's own zlib replaces Python's if it is loaded first, and crashes it
from pathlib import Path

import pydicom
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

_BY_PYDICOM = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def transcode(path: Path, syntax: UID) -> None:
    """Rewrites a file of explicit little endian in another transfer syntax.

    Args:
        path: the file; 8 or 16 bits allocated, grey.
        syntax: uncompressed, RLE, or one of JPEG, JPEG-LS and JPEG 2000 that GDCM writes.

    Raises:
        RuntimeError: GDCM cannot read the file or write the syntax.
    """
    if syntax in _BY_PYDICOM:
        file = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian and file.BitsAllocated == 16:
            file.PixelData = file.pixel_array.astype(">u2").tobytes()
        file.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            path,
            file,
            little_endian=syntax != ExplicitVRBigEndian,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            force_encoding=True,
        )
        return
    if syntax == RLELossless:
        file = pydicom.dcmread(path)
        file.compress(RLELossless, generate_instance_uid=False)
        file.save_as(path)
        return
    import gdcm  # of the optional decoders, which the syntaxes above do not need

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise RuntimeError(f"GDCM cannot read {path}")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise RuntimeError(f"GDCM cannot write {syntax.name}")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise RuntimeError(f"GDCM cannot write {path}")
