import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import encode_png, images, read_image, read_mask

LUNGS = np.array([[0, 1, 1], [0, 0, 1]], dtype=np.uint8)
GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)


def test_eight_bit_grey_is_rows_by_columns_in_unit_range(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")

    image = read_image(tmp_path / "grey.png")

    assert image.dtype == np.float32
    np.testing.assert_allclose(image, GREY / 255, atol=1e-7)


def test_sixteen_bit_grey(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")

    np.testing.assert_allclose(read_image(tmp_path / "deep.png"), deep / 65535, atol=1e-7)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_colour_becomes_grey(tmp_path, mode):
    Image.fromarray(GREY).convert(mode).save(tmp_path / "colour.png")

    np.testing.assert_allclose(read_image(tmp_path / "colour.png"), GREY / 255, atol=1 / 254)


def test_jpeg(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.jpg", quality=95)

    np.testing.assert_allclose(read_image(tmp_path / "grey.jpg"), GREY / 255, atol=0.05)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: there is no such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_garbage(tmp_path, content):
    (tmp_path / "page.png").write_bytes(content)

    with pytest.raises(InputError, match=r"page\.png: not a readable image.*drop its row"):
        read_image(tmp_path / "page.png")


@pytest.mark.parametrize("name", ["whole.png", "whole.jpg"])
def test_truncated(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])

    with pytest.raises(InputError, match="not a readable image"):
        read_image(tmp_path / name)


def test_floating_point_pixels_are_an_error(tmp_path):
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tiff")

    with pytest.raises(InputError, match="floating-point"):
        read_image(tmp_path / "float.tiff")


@pytest.mark.parametrize(
    "stored",
    [
        LUNGS * 255,
        np.where(LUNGS, 128, 127).astype(np.uint8),
        LUNGS,
        LUNGS.astype(bool),
        LUNGS.astype(np.uint16) * 65535,
        np.stack([LUNGS * 255] * 3, axis=-1),
    ],
    ids=["0 and 255", "about the threshold", "0 and 1", "1 bit", "16 bits", "colour"],
)
def test_foreground_of_a_mask(tmp_path, stored):
    Image.fromarray(stored).save(tmp_path / "mask.png")

    mask = read_mask(tmp_path / "mask.png")

    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LUNGS)


def test_unreadable_mask(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"nothing")

    with pytest.raises(InputError, match=r"mask\.png"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("bits", [1, 10, 12, 15])
def test_a_16_bit_picture_that_uses_fewer_bits_is_told_once(tmp_path, caplog, monkeypatch, bits):
    monkeypatch.setattr(images, "_told", set())
    values = np.linspace(0, 2**bits - 1, 240).reshape(12, 20).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "raw.png")

    for _ in range(2):
        np.testing.assert_allclose(read_image(tmp_path / "raw.png"), values / 65535, atol=1e-7)

    (record,) = caplog.records
    assert f"raw.png: uses {bits} of its 16 bits" in record.getMessage()


def test_a_16_bit_picture_of_full_range_or_of_intake_is_not_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(images, "_told", set())
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    dark = GREY.astype(np.uint16)
    (tmp_path / "dark.png").write_bytes(b"".join(encode_png(dark.shape, [dark])))

    read_image(tmp_path / "deep.png")
    read_image(tmp_path / "dark.png")

    assert not caplog.records


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "EPS", "ICO", "WEBP"])
def test_other_formats_than_png_jpeg_and_tiff_are_refused_whatever_the_name(tmp_path, kind):
    """Pillow starts Ghostscript for a PostScript file, whatever its name."""
    Image.new("L" if kind != "ICO" else "RGB", (16, 16)).save(tmp_path / "a.png", kind)

    for read in (read_image, read_mask):
        with pytest.raises(InputError, match="not a readable image"):
            read(tmp_path / "a.png")


def test_every_picture_is_opened_with_a_list_of_formats():
    """A parser that is not needed is a parser that can be attacked."""
    package = Path(images.__file__).parents[1]
    opened = [
        (path.name, node.lineno, [keyword.arg for keyword in node.keywords])
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open")
    ]

    assert len(opened) >= 4
    assert [place for *place, keywords in opened if "formats" not in keywords] == []
