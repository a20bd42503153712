"""Images of unknown origin: what they say of themselves, and how large they may be, before anything is decoded."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import (
    LARGEST_PIXELS,
    dicom,
    header,
    open_header,
    read_image,
    read_untrusted,
    untrusted,
)
from cxr_isnet.imaging.codecs import read_codestream
from tests.imaging.chest_files import chest_dataset, write_chest


@pytest.fixture
def file(phantom_manifest: Path) -> Path:
    return next((phantom_manifest.parent / "images").iterdir())


def test_a_file_and_its_content_are_what_a_manifest_would_read(file: Path) -> None:
    for source in (file, file.read_bytes()):
        found = read_untrusted(source)

        np.testing.assert_array_equal(found.image, read_image(file))
        assert found.provenance is not None
        assert found.provenance.view == "PA"


@pytest.mark.parametrize("age", [("010Y", 10.0), ("006M", 0.5), ("052W", 52 * 7 / 365.25), ("", None), ("old", None)])
def test_the_age_is_that_of_the_tag(age: tuple[str, float | None], file: Path) -> None:
    dataset = pydicom.dcmread(file)
    dataset.add_new("PatientAge", "AS", age[0])
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=False)

    assert read_untrusted(stream.getvalue()).age == (None if age[1] is None else pytest.approx(age[1]))


def test_more_pixels_than_allowed_are_refused_of_every_kind(file: Path) -> None:
    picture = io.BytesIO()
    Image.new("L", (64, 64)).save(picture, "PNG")
    for source in (file, file.read_bytes(), picture.getvalue()):
        read_untrusted(source, largest_pixels=64 * 64)
        with pytest.raises(InputError, match="4095"):
            read_untrusted(source, largest_pixels=64 * 64 - 1)


def test_other_formats_of_pillow_are_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.gif")

    with pytest.raises(InputError, match=r"a\.gif"):
        read_untrusted(tmp_path / "a.gif")


def test_a_codestream_says_its_pixels() -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.zeros((48, 80), np.uint8)

    for encode in (imagecodecs.jpeg8_encode, imagecodecs.jpeg2k_encode, imagecodecs.jpegls_encode):
        assert read_codestream(b"\xfe\xff\x00\xe0\0\0\0\0" + encode(pixels)) == (48 * 80, 8)
    for data in (b"", b"\xff\xd8\xff", b"\xff\x4f\xff\x51\0", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 3):
        assert read_codestream(data) is None


def deflated(inflated: int) -> bytes:
    """A file whose data set inflates to some bytes of one private element, before the pixels."""
    dataset = chest_dataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.add_new(0x00091010, "OB", bytes(inflated))
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def open_and_close(path: Path) -> None:
    with open_header(path):
        pass


@pytest.mark.parametrize("reader", [read_untrusted, read_image, open_and_close])
def test_a_deflated_file_inflates_to_a_limited_number_of_bytes_whoever_reads_it(
    reader: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PS3.5, A.5: 2 MB may be 6 GB, which pydicom inflates before anything can be asked of them."""
    path = tmp_path / "a.dcm"
    path.write_bytes(deflated(4_000_000))
    monkeypatch.setattr(header.read_header, "__defaults__", (1_000_000,))
    monkeypatch.setitem(dicom.read_radiograph.__kwdefaults__, "most_inflated", 1_000_000)
    monkeypatch.setattr(untrusted, "INFLATED_PER_PIXEL", 1_000_000 / LARGEST_PIXELS)

    with pytest.raises(InputError, match="inflates to more than 1000000"):
        reader(path)
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("reader", [read_image, read_untrusted])
def test_more_pixels_than_a_detector_has_are_refused_whoever_reads_them(
    reader: Callable[[Path], object], tmp_path: Path
) -> None:
    """A header that claims 65535 x 65535 pixels costs nothing."""
    path = write_chest(tmp_path / "a.dcm", Rows=65535, Columns=65535)
    Image.new("1", (8001, 8000)).save(tmp_path / "a.png")

    for name in ("a.dcm", "a.png"):
        with pytest.raises(InputError, match=str(LARGEST_PIXELS)):
            reader(path.with_name(name))
