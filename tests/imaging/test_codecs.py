from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from transcoding import transcode

from cxr_isnet.imaging import decoding
from cxr_isnet.imaging.acceptance import READING_RULES, AcceptanceConfig
from cxr_isnet.imaging.codecs import PLUGIN, fast_decoder
from cxr_isnet.imaging.dicom import read_radiograph
from tests.imaging.chest_files import chest_dataset
from tests.imaging.decoders import needs_decoders

pytestmark = needs_decoders

FAST = [
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
]
NOISE = np.random.default_rng(0)


def pixels(shape, bits, signed):
    """Values over the whole range, smooth in one half and noise in the other."""
    ramp = np.broadcast_to(np.linspace(0, 2**bits - 1, shape[1]), shape).round().astype(np.int64)
    values = np.where(np.arange(shape[0])[:, None] % 2, ramp, NOISE.integers(0, 2**bits, shape))
    return values - 2 ** (bits - 1) * signed


def dataset(values, bits, signed):
    size = 8 if bits == 8 else 16
    stored = values.astype(f"<{'i' if signed else 'u'}{size // 8}").tobytes()
    return chest_dataset(
        pixels=values,
        BitsAllocated=size,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(signed),
        PixelData=stored,
    )


def transcoded(file, syntax, path):
    if syntax == uid.RLELossless:  # by pydicom: on some of these GDCM's encoder aborts the process
        file.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        file.save_as(path, enforce_file_format=True)
    else:
        file.save_as(path, enforce_file_format=True)
        transcode(path, syntax)
    return pydicom.dcmread(path)


def with_frame(file, stream, syntax):
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = encapsulate([stream])
    file["PixelData"].is_undefined_length = True
    return file


def decoded(decoder, file, plugin=""):
    return decoder.as_array(file, index=0, raw=True, correct_unused_bits=False, decoding_plugin=plugin)[0]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", FAST, ids=lambda syntax: syntax.keyword)
def test_values_are_those_of_pydicom(tmp_path, syntax, bits, signed):
    file = transcoded(dataset(pixels((33, 46), bits, signed), bits, signed), syntax, tmp_path / "chest.dcm")

    expected, found = decoded(get_decoder(syntax), file), decoded(fast_decoder(syntax), file)

    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_predictor_of_jpeg_lossless(predictor):
    import imagecodecs

    values = pixels((40, 31), 12, signed=False).astype(np.uint16)
    stream = imagecodecs.jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=12)
    file = with_frame(dataset(values, 12, signed=False), stream, uid.JPEGLossless)

    np.testing.assert_array_equal(decoded(fast_decoder(uid.JPEGLossless), file), values)
    np.testing.assert_array_equal(decoded(get_decoder(uid.JPEGLossless), file), values)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("syntax", FAST, ids=lambda syntax: syntax.keyword)
def test_truncated_frames_are_left_to_pydicom(tmp_path, syntax, share):
    file = transcoded(dataset(pixels((33, 46), 12, False), 12, False), syntax, tmp_path / "chest.dcm")
    frame = get_frame(file.PixelData, 0, number_of_frames=1)
    cut = with_frame(file, frame[: int(len(frame) * share)], syntax)

    with pytest.raises(RuntimeError):
        decoded(fast_decoder(syntax), cut)


@pytest.mark.parametrize("place", range(0, 64, 4))
def test_a_damaged_table_of_rle_segments_is_left_to_pydicom_or_harmless(tmp_path, place):
    values = pixels((33, 46), 12, signed=False)
    file = transcoded(dataset(values, 12, False), uid.RLELossless, tmp_path / "chest.dcm")
    frame = bytearray(get_frame(file.PixelData, 0, number_of_frames=1))
    frame[place : place + 4] = b"\xff\xff\xff\x7f"
    damaged = with_frame(file, bytes(frame), uid.RLELossless)

    if place <= 8:  # the number of segments, and the places of the two that there are
        with pytest.raises(RuntimeError):
            decoded(fast_decoder(uid.RLELossless), damaged)
    else:
        np.testing.assert_array_equal(decoded(fast_decoder(uid.RLELossless), damaged), values)


def test_a_damaged_huffman_table_is_left_to_pydicom(tmp_path):
    file = transcoded(dataset(pixels((33, 46), 12, False), 12, False), uid.JPEGLosslessSV1, tmp_path / "chest.dcm")
    frame = bytearray(get_frame(file.PixelData, 0, number_of_frames=1))
    first = frame.index(b"\xff\xc4") + 21
    frame[first] = frame[first + 1]

    with pytest.raises(RuntimeError, match="Huffman table"):
        decoded(fast_decoder(uid.JPEGLosslessSV1), with_frame(file, bytes(frame), uid.JPEGLosslessSV1))


def test_a_header_of_another_size_is_left_to_pydicom(tmp_path):
    file = transcoded(dataset(pixels((32, 48), 12, False), 12, False), uid.JPEGLSLossless, tmp_path / "chest.dcm")
    file.Rows, file.Columns = 48, 32

    with pytest.raises(RuntimeError):
        decoded(fast_decoder(uid.JPEGLSLossless), file)


@pytest.mark.parametrize("syntax", FAST, ids=lambda syntax: syntax.keyword)
def test_without_imagecodecs_files_are_read_as_before(tmp_path, monkeypatch, syntax):
    transcoded(dataset(pixels((32, 48), 12, False), 12, False), syntax, tmp_path / "chest.dcm")
    content = (tmp_path / "chest.dcm").read_bytes()
    fast = read_radiograph(BytesIO(content), AcceptanceConfig(), READING_RULES)

    monkeypatch.setattr(decoding, "fast_decoder", lambda syntax: None)
    slow = read_radiograph(BytesIO(content), AcceptanceConfig(), READING_RULES)

    np.testing.assert_array_equal(slow.pixels, fast.pixels)
    assert slow.provenance == fast.provenance


def test_decoders_of_pydicom_stay_as_they_are():
    for syntax in FAST:
        assert fast_decoder(syntax).available_plugins == (PLUGIN,)
        assert PLUGIN not in get_decoder(syntax).available_plugins
    assert fast_decoder(uid.JPEG2000Lossless) is None
