import bz2
import gzip
import logging
import lzma
import tarfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image

from cxr_isnet.imaging.acceptance import INTAKE_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.header import Header, open_header, quiet_pydicom, read_header
from cxr_isnet.imaging.rejection import RejectedFile, RejectionReason
from tests.imaging.chest_files import SECRET, chest_bytes, write_chest


@pytest.fixture
def heard():
    """What reaches a handler of pydicom's own log and one of the whole process."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logs = logging.getLogger("pydicom"), logging.getLogger()
    for log in logs:
        log.addHandler(handler)
    yield records
    for log in logs:
        log.removeHandler(handler)


def complain():
    logging.getLogger("pydicom").error("Doe^Jane")
    logging.getLogger("pydicom.pixels.decoders.base").error("Doe^Jane")
    warnings.warn("Doe^Jane", stacklevel=1)


def test_nothing_that_pydicom_says_is_heard_until_the_block_ends(heard, capfd):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with quiet_pydicom():
            complain()
        assert not heard
        assert not warned
        assert "Doe" not in "".join(capfd.readouterr())

        complain()

    assert len(heard) == 4
    assert len(warned) == 1


def test_threads_that_overlap_are_all_silent_and_leave_the_log_as_it_was(heard):
    first, second = quiet_pydicom(), quiet_pydicom()
    with ThreadPoolExecutor(2) as threads:
        threads.submit(first.__enter__).result()
        threads.submit(second.__enter__).result()
        threads.submit(first.__exit__, None, None, None).result()
        threads.submit(complain).result()
        assert not heard
        threads.submit(second.__exit__, None, None, None).result()

    logging.getLogger("pydicom").error("Doe^Jane")

    assert len(heard) == 2


def test_an_open_header_is_read_and_pydicom_is_silent_within(heard, tmp_path):
    with open_header(write_chest(tmp_path / "a")) as header:
        complain()
        assert (header.text("PatientAge"), header.integer("Rows")) == ("070Y", 64)

    assert not heard


def test_reading_a_radiograph_is_silent_about_values_that_the_standard_does_not_allow(heard):
    with quiet_pydicom():
        content = chest_bytes(SOPClassUID=f"1.2.{SECRET}")

    radiograph = read_radiograph(BytesIO(content), AcceptanceConfig(), INTAKE_RULES)

    assert radiograph.provenance.sop_class == "(not shown)"
    assert not heard


@pytest.mark.parametrize(("content", "reason"), [(None, "unreadable"), (b"<html>", "not_dicom")])
def test_a_header_that_does_not_open_is_rejected_without_the_files_name(tmp_path, content, reason):
    path = tmp_path / f"{SECRET}.dcm"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(RejectedFile) as rejected, open_header(path):
        pass

    assert rejected.value.reason.value == reason
    assert SECRET not in str(rejected.value)


def packed(kind: str) -> bytes:
    """A DICOM file in an archive, as an archive program writes it."""
    stream, content = BytesIO(), chest_bytes()
    if kind == "tar":
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo("a.dcm")
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    elif kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.dcm", content)
    else:
        return {"gz": gzip, "bz2": bz2, "xz": lzma}[kind].compress(content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "remedy"), [*((kind, "Unpack it") for kind in ("tar", "gz", "bz2", "xz")), ("zip", "Name it .zip")]
)
def test_an_archive_of_images_is_told_apart_from_what_is_no_image(kind, remedy):
    with pytest.raises(RejectedFile, match=remedy) as rejected:
        read_header(BytesIO(packed(kind)))

    assert rejected.value.reason is RejectionReason.ARCHIVE


@pytest.mark.parametrize(("kind", "remedy"), [("PNG", "manifest build folder"), ("JPEG", "manifest build folder")])
def test_a_picture_is_sent_where_pictures_are_taken(kind, remedy):
    stream = BytesIO()
    Image.new("L", (40, 40)).save(stream, kind)

    with pytest.raises(RejectedFile, match=remedy) as rejected:
        read_header(stream)

    assert rejected.value.reason is RejectionReason.NOT_DICOM


def test_an_empty_file_is_told_as_that():
    with pytest.raises(RejectedFile, match="empty"):
        read_header(BytesIO())


def with_text(keyword, text, **elements):
    """A file with a value of VR DS or IS that pydicom would refuse to write."""
    placeholder = "1" * (len(text) + len(text) % 2)
    return chest_bytes(**{keyword: placeholder}, **elements).replace(
        placeholder.encode(), text.ljust(len(placeholder)).encode()
    )


@pytest.mark.parametrize(
    ("keyword", "text", "values"),
    [
        ("RescaleSlope", "0,5", (0.5,)),
        ("RescaleIntercept", "-12,25", (-12.25,)),
        ("WindowCenter", "1500,5", (1500.5,)),
        ("ImagerPixelSpacing", "0,143\\0,143", (0.143, 0.143)),
        ("RescaleSlope", "1.5", (1.5,)),
        ("RescaleSlope", "1,000,5", ()),
        ("RescaleSlope", "half", ()),
    ],
)
def test_numbers_with_a_decimal_comma_are_read(keyword, text, values):
    """PS3.5, 6.2: a DS has a decimal point. Devices of half of Europe write a comma."""
    with quiet_pydicom():
        header = Header(read_header(BytesIO(with_text(keyword, text))))

        assert header.numbers(keyword) == values
        assert header.number(keyword) == (values[0] if values else None)


def test_a_slope_with_a_decimal_comma_is_applied():
    elements = {"WindowCenter": "500", "WindowWidth": "1000"}

    found = read_radiograph(BytesIO(with_text("RescaleSlope", "0,5", **elements)), AcceptanceConfig(), INTAKE_RULES)

    same = read_radiograph(BytesIO(chest_bytes(RescaleSlope="0.5", **elements)), AcceptanceConfig(), INTAKE_RULES)
    assert (found.image() == same.image()).all()


def test_a_slope_that_is_no_number_is_recorded():
    found = read_radiograph(BytesIO(with_text("RescaleSlope", "half")), AcceptanceConfig(), INTAKE_RULES)

    assert "rescale slope 1 instead of None" in found.provenance.assumed
