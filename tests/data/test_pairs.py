import numpy as np
import pandas as pd
import pytest

from cxr_isnet.data import check_files, read_pair
from cxr_isnet.errors import InputError

GREY = np.full((40, 50), 100)
LUNGS = np.zeros((40, 50))
LUNGS[10:20] = 255


def test_mask_of_another_size_names_both_sizes(write_picture):
    image, mask = write_picture("a.png", GREY), write_picture("m.png", LUNGS.T)

    with pytest.raises(InputError, match=r"m\.png: column 'mask': 50 x 40 .*a\.png has 40 x 50"):
        read_pair(image, mask)


def test_empty_mask_names_the_remedy(write_picture):
    image, mask = write_picture("a.png", GREY), write_picture("m.png", LUNGS * 0)

    with pytest.raises(InputError, match=r"m\.png: column 'mask': the mask is empty.*leave the cell empty"):
        read_pair(image, mask)


def test_check_passes_good_files(phantoms):
    check_files(phantoms)


def test_check_lists_all_problems_and_cuts_the_list(write_picture, tmp_path):
    good = write_picture("good.png", GREY)
    bad = []
    for number in range(6):
        path = tmp_path / f"bad{number}.png"
        path.write_bytes(b"not a picture")
        bad.append(str(path))
    frame = pd.DataFrame({"image": [good, *bad, good], "mask": ["", *[""] * 6, write_picture("m.png", LUNGS * 0)]})

    with pytest.raises(InputError) as caught:
        check_files(frame)

    lines = str(caught.value).splitlines()
    assert "bad0.png" in lines[0]
    assert len(lines) == 6
    assert lines[-1] == "and 2 more"
