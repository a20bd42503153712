import numpy as np
import pytest

from cxr_isnet.data import check_files
from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image, read_mask
from cxr_isnet.manifests import read_manifest
from cxr_isnet.phantoms import PhantomHospital, write_hospital

ALDER = PhantomHospital("Alder")


def test_manifest_is_complete_and_its_files_fit(phantoms):
    check_files(phantoms)

    assert phantoms["label"].value_counts().to_dict() == {"normal": 6, "tuberculosis": 6}
    assert phantoms["patient_id"].is_unique
    assert (phantoms["mask"] != "").all()
    stated = phantoms["age"].dropna()  # four of the twelve are taken away
    assert len(stated) == 8
    assert stated.between(18, 90).all()


def test_lungs_are_darker_than_the_rest_of_the_trunk_also_in_monochrome1(phantoms):
    for image, mask in zip(phantoms["image"], phantoms["mask"], strict=True):
        picture, lungs = read_image(image), read_mask(mask) > 0
        assert picture[lungs].mean() < 0.8 * picture[45:][~lungs[45:]].mean()


def test_equal_arguments_give_equal_files(tmp_path):
    for folder in ("one", "two"):
        write_hospital(tmp_path / folder, ALDER, patients=2, seed=5, size=64)

    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_seeds_and_hospitals_differ(tmp_path):
    manifests = [
        write_hospital(tmp_path / str(number), hospital, patients=1, seed=seed, size=64)
        for number, (hospital, seed) in enumerate([(ALDER, 0), (ALDER, 1), (PhantomHospital("Birch"), 0)])
    ]

    pictures = [read_image(read_manifest(path)["image"][0]) for path in manifests]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_existing_manifest_is_not_overwritten(tmp_path):
    write_hospital(tmp_path, ALDER, patients=1, size=64)

    with pytest.raises(InputError, match=r"manifest\.csv: exists already"):
        write_hospital(tmp_path, ALDER, patients=1, size=64)


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"classes": ("a", "b", "c")}, {"size": 16}])
def test_wrong_arguments_are_errors(tmp_path, wrong):
    with pytest.raises(InputError, match="phantoms were asked for"):
        write_hospital(tmp_path, ALDER, **({"patients": 1} | wrong))
