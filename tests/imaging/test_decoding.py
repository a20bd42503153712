import base64
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder
from transcoding import transcode

from cxr_isnet.imaging import decoding, read_image
from cxr_isnet.imaging.acceptance import INTAKE_RULES, READING_RULES, AcceptanceConfig
from cxr_isnet.imaging.dicom import read_radiograph
from cxr_isnet.imaging.rejection import RejectedFile
from tests.imaging.chest_files import chest_dataset, chest_pixels, write_chest
from tests.imaging.decoders import needs_decoders

LOSSLESS = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    *(
        pytest.param(syntax, marks=needs_decoders)
        for syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless)
    ),
]

Y, X = np.mgrid[:32, :32]

HTJ2K_VALUES = (Y[:16, :16] * 150 + X[:16, :16] * 90).astype(np.uint16)
HTJ2K_STREAM = base64.b64decode(
    "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCI"
    "kJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAIQAAf+TwAAma/cFB3QAAMAAE0AAEwBs/gKH"
    "dAC0+gMHdADAABPAABOANGn+AgJ0AFjF6gCjVADAABUwAAVYlJSUlKpxgnUAoooSJerAQgHstgDAACvgABaYMplMJpPJZOfKenpx"
    "AngAKlVUVFRUVFT+/Yxge/Yxgey6AP/Z"
)
"""`HTJ2K_VALUES` by OpenJPH, without loss."""

EXTENDED_VALUES = np.clip((Y - 8) * 180 + (X - 8) * 60, 0, 4095).astype(np.uint16)
EXTENDED_STREAM = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoK"
    "CgoKBggLDAsKDAkKCgr/wQALDAAgACABAREA/8QAGAABAQEBAQAAAAAAAAAAAAAACwAJBg7/xAAxEAAAAwMJBwQDAQAAAAAAAAAB"
    "AgMFBgcABAkLDBESISkICjZGVGNxExQVYTFBsVH/2gAIAQEAAD8A8/8A8uphHA6M0fnrRcWB0KXie9srqEImzXbY609WvMNxbypF"
    "MJQEf2NwZDnlLeCg5qy/evadF62QzoHbADxOexmsoBU2o8jLVUWADCAFMCCQXCAhnmco/jL/ABGHcy7Kd0yVKm97qPftuwniI9vv"
    "5wiqqy/i1pvMwxAACT00ihjLmORxN/JW5l2U7pkqVN73Ue/bdhPER7ffzhFVVl/FrTeZhiAAEnppFDGXMcjib+Sa2q7mxl/A2lR0"
    "3JnjtyeAq7mxl/A2lR03JnjtyeAq7mxl/A2lR03Jnjtyqu5sZfwNpUdNyZ47cngKu5sZfwNpUdNyZ47cngKu5sZfwNpUdNyZ47cn"
    "gKu5sZfwNpUdNyZ47cqrubGX8DaVHTcmeO3JsTcwLKM0QlFu6LqPftuQdh45xZggioszVmWitPBw3Xl9JMoiQ30fDJHWgtqv3dOq"
    "Ct1GPMYObBLvvm2WSmQCNF4GWkigIlALhBFIL7wHPM4h9S3zgxs+wL2c3TRcSAkH3ac1joJFTTZ7tMZGZp4ShcGIEihiH7G8Zf/Z"
)
"""`EXTENDED_VALUES` by libjpeg-turbo at 12 bits and quality 95, whose own decoder is off by 6 at most."""


def read(content, rules=INTAKE_RULES):
    return read_radiograph(BytesIO(content), AcceptanceConfig(), rules)


def encapsulated(values, stream, syntax, **elements):
    """Content of a file with one given frame."""
    file = chest_dataset(pixels=values, **elements)
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = encapsulate([stream])
    file["PixelData"].is_undefined_length = True
    target = BytesIO()
    pydicom.dcmwrite(target, file, enforce_file_format=True)
    return target.getvalue()


@pytest.fixture(params=LOSSLESS, ids=lambda syntax: syntax.name[:40])
def lossless(request, tmp_path):
    """A chest in one syntax after the other."""
    path = write_chest(tmp_path / "chest.dcm", pixels=chest_pixels(96))
    transcode(path, request.param)
    return path.read_bytes(), request.param


def test_lossless_syntaxes_give_the_stored_values(lossless):
    content, syntax = lossless

    radiograph = read(content)

    np.testing.assert_array_equal(radiograph.pixels, chest_pixels(96))
    assert radiograph.provenance.transfer_syntax == syntax.name


@pytest.mark.parametrize("share", [0.97, 0.5])
def test_truncated_files_are_rejected_in_every_syntax(lossless, share):
    content, _ = lossless

    with pytest.raises(RejectedFile) as rejected:
        read(content[: int(len(content) * share)])

    assert rejected.value.reason.value in ("broken", "undecodable")


@needs_decoders
def test_near_lossless_jpeg_ls_and_lossy_jpeg_2000_are_close(tmp_path):
    for syntax in (uid.JPEGLSNearLossless, uid.JPEG2000):
        path = write_chest(tmp_path / "chest.dcm", pixels=chest_pixels(96))
        transcode(path, syntax)

        pixels = read(path.read_bytes()).pixels

        assert np.abs(pixels.astype(int) - chest_pixels(96)).max() <= 8


@needs_decoders
def test_high_throughput_jpeg_2000():
    for syntax in (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K):
        content = encapsulated(HTJ2K_VALUES, HTJ2K_STREAM, syntax, BitsStored=16, HighBit=15)

        np.testing.assert_array_equal(read(content, READING_RULES).pixels, HTJ2K_VALUES)


@needs_decoders
def test_jpeg_extended_of_12_bits():
    pixels = read(encapsulated(EXTENDED_VALUES, EXTENDED_STREAM, uid.JPEGExtended12Bit)).pixels

    assert np.abs(pixels.astype(int) - EXTENDED_VALUES).max() <= 6


@needs_decoders
def test_jpeg_extended_of_12_bits_is_what_another_decoder_makes_of_it():
    import imagecodecs

    stream = imagecodecs.jpeg8_encode(chest_pixels(200)[:, :147], level=90, bitspersample=12)
    values = imagecodecs.jpeg8_decode(stream).astype(int)

    pixels = read(encapsulated(values, stream, uid.JPEGExtended12Bit)).pixels

    assert values.max() > 255
    assert np.abs(pixels - values).max() <= 2  # the inverse cosine transforms round differently


@needs_decoders
@pytest.mark.parametrize("signed", [False, True])
def test_high_throughput_jpeg_2000_of_another_encoder_in_an_odd_size(signed):
    import imagecodecs

    values = chest_pixels(200)[:, :147].astype(np.int16 if signed else np.uint16) - 2048 * signed
    elements = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": int(signed)}
    stream = imagecodecs.htj2k_encode(values, reversible=True)

    for syntax in (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K):
        pixels = read(encapsulated(values, stream, syntax, **elements)).pixels

        np.testing.assert_array_equal(pixels.view(values.dtype), values)


@needs_decoders
def test_jpeg_baseline_of_8_bits(tmp_path):
    eight = (chest_pixels(96) >> 4).astype(np.uint8)
    elements = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": eight.tobytes()}
    path = write_chest(tmp_path / "chest.dcm", pixels=eight, **elements)
    transcode(path, uid.JPEGBaseline8Bit)

    radiograph = read(path.read_bytes())

    assert radiograph.pixels.dtype == np.uint8
    assert np.abs(radiograph.pixels.astype(int) - eight).mean() < 2


def test_colour_is_read_as_luma_and_flagged():
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 200
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": red.tobytes()}

    radiograph = read(_saved(chest_dataset(**elements, **eight)))

    assert np.unique(radiograph.pixels).tolist() == [60]  # 0.299 of 200
    assert "colour" in [flag.value for flag in radiograph.provenance.flags]


def test_first_frame_of_several_when_asked():
    frames = np.stack([chest_pixels(64, seed) for seed in (1, 2)])
    content = _saved(chest_dataset(NumberOfFrames=2, PixelData=frames.tobytes()))

    radiograph = read_radiograph(BytesIO(content), AcceptanceConfig(multiframe=True), INTAKE_RULES)

    np.testing.assert_array_equal(radiograph.pixels, frames[0])
    assert "first of 2 frames" in radiograph.provenance.assumed
    with pytest.raises(RejectedFile, match="NumberOfFrames"):
        read(content)


def test_file_without_preamble_and_meta_group_is_read(tmp_path):
    bare = BytesIO()
    file = chest_dataset()
    del file.file_meta
    file.preamble = None
    pydicom.dcmwrite(bare, file, implicit_vr=True, little_endian=True)

    np.testing.assert_array_equal(read(bare.getvalue()).pixels, chest_pixels(64))
    (tmp_path / "bare").write_bytes(bare.getvalue())
    np.testing.assert_allclose(read_image(tmp_path / "bare"), chest_pixels(64) / 4095, atol=1e-6)


def test_big_endian_without_preamble_and_meta_group_is_read(tmp_path):
    """PS3.5, 7.3; PS3.10, 7.1 asks for a meta group, which old exports leave out."""
    file = chest_dataset()
    del file.file_meta
    file.preamble = None
    file["PixelData"].VR = "OW"
    file.PixelData = np.frombuffer(file.PixelData, "<u2").astype(">u2").tobytes()
    pydicom.dcmwrite(tmp_path / "bare", file, implicit_vr=False, little_endian=False)

    content = (tmp_path / "bare").read_bytes()

    assert content[:2] == b"\x00\x08"
    np.testing.assert_array_equal(read(content).pixels, chest_pixels(64))
    assert read(content).provenance.transfer_syntax == "Explicit VR Big Endian"
    np.testing.assert_allclose(read_image(tmp_path / "bare"), chest_pixels(64) / 4095, atol=1e-6)


@pytest.mark.parametrize("keyword", ["PixelRepresentation", "HighBit", "SamplesPerPixel", "PhotometricInterpretation"])
def test_missing_tags_of_one_sensible_value_are_assumed(keyword):
    radiograph = read(_saved(chest_dataset(**{keyword: None})))

    np.testing.assert_array_equal(radiograph.pixels, chest_pixels(64))
    assert any(note.startswith(keyword) for note in radiograph.provenance.assumed)


def test_without_a_decoder_the_extra_that_has_it_is_named(monkeypatch):
    monkeypatch.setattr(decoding, "fast_decoder", lambda syntax: None)
    monkeypatch.setattr(decoding, "get_decoder", Decoder)  # one without plugins

    with pytest.raises(
        RejectedFile, match=r"High-Throughput JPEG 2000.*cannot be decoded.*pip install 'cxr-isnet\[dicom\]'"
    ):
        read(encapsulated(HTJ2K_VALUES, HTJ2K_STREAM, uid.HTJ2K, BitsStored=16, HighBit=15), READING_RULES)


def _encode(values, syntax):
    """12-bit samples by imagecodecs, which has JPEG-LS of 16 bits only."""
    import imagecodecs

    if syntax == uid.JPEGLSLossless:
        return imagecodecs.jpegls_encode(values)
    if syntax == uid.JPEGLosslessSV1:
        return imagecodecs.ljpeg_encode(values, bitspersample=12)
    return imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", bitspersample=12, reversible=True)


@needs_decoders
@pytest.mark.parametrize(
    ("syntax", "container"),
    [
        (syntax, container)
        for syntax in (uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless)
        for container in ({}, {"HighBit": 15}, {"BitsStored": 16, "HighBit": 15}, {"BitsStored": 10, "HighBit": 9})
        if syntax != uid.JPEGLSLossless or "BitsStored" not in container
    ],
    ids=str,
)
def test_compressed_samples_end_at_their_lowest_bit_whatever_the_header_says(syntax, container):
    """PS3.5, 8.2: the codestream says how many bits a sample has; HighBit is that of the container."""
    values = chest_pixels(96)

    radiograph = read(encapsulated(values, _encode(values, syntax), syntax, **container))

    np.testing.assert_array_equal(radiograph.pixels, values)
    np.testing.assert_allclose(radiograph.image(), values / 4095, atol=1e-6)
    said = [note for note in radiograph.provenance.assumed if note.endswith("by the samples")]
    assert bool(said) == bool(container)


@needs_decoders
def test_containers_that_were_compressed_as_they_are_end_at_high_bit():
    import imagecodecs

    values = chest_pixels(96) << 4
    stream = imagecodecs.jpegls_encode(values)

    radiograph = read(encapsulated(values, stream, uid.JPEGLSLossless, HighBit=15))

    np.testing.assert_allclose(radiograph.image(), chest_pixels(96) / 4095, atol=1e-6)


def test_uncompressed_values_that_end_at_the_lowest_bit_whatever_high_bit_says():
    radiograph = read(_saved(chest_dataset(HighBit=15)))

    np.testing.assert_allclose(radiograph.image(), chest_pixels(64) / 4095, atol=1e-6)
    assert "HighBit 11 instead of 15, by the samples" in radiograph.provenance.assumed


def test_unknown_transfer_syntax_is_rejected():
    content = encapsulated(HTJ2K_VALUES, HTJ2K_STREAM, "1.2.3.4")

    with pytest.raises(RejectedFile, match=r"of an unknown kind cannot be decoded.*Transcode it"):
        read(content, READING_RULES)


def test_the_remedy_of_damaged_pixels_is_another_copy():
    with pytest.raises(RejectedFile, match=r"cannot be decoded.*Copy the file anew"):
        read(_saved(chest_dataset(PixelData=b"\0" * 100)))


def _saved(file):
    target = BytesIO()
    pydicom.dcmwrite(target, file, enforce_file_format=True)
    return target.getvalue()
