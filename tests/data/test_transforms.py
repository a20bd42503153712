import numpy as np
import pytest
import torch

from cxr_isnet.data import ImageConfig, LoadChestXrayd, MemoryStore

GREY = np.full((40, 50), 100)
LUNGS = np.zeros((40, 50))
LUNGS[10:20] = 255


def test_image_and_mask_become_tensors(write_picture):
    item = LoadChestXrayd(ImageConfig(32))(
        {"image": write_picture("a.png", GREY), "mask": write_picture("m.png", LUNGS), "label": 1}
    )

    assert item["image"].shape == item["mask"].shape == (1, 32, 32)
    assert item["mask"].sum() == 8 * 32
    assert item["has_mask"].item() is True
    assert item["label"] == 1


@pytest.mark.parametrize("extra", [{}, {"mask": ""}])
def test_without_a_mask_zeros_stand_in(write_picture, extra):
    item = LoadChestXrayd(ImageConfig(32))({"image": write_picture("a.png", GREY), **extra})

    assert item["has_mask"].item() is False
    assert torch.equal(item["mask"], torch.zeros(1, 32, 32))


def test_a_store_of_another_size_is_refused():
    with pytest.raises(ValueError, match="a store of images of 48 pixels for a network of 32"):
        LoadChestXrayd(ImageConfig(32), MemoryStore(ImageConfig(48)))
