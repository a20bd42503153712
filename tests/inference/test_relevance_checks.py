"""Maps of a classifier that looks at one place, against what was marked there."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_isnet.data import ImageConfig
from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.inference.annotations import read_boxes, read_zone_scores
from cxr_isnet.inference.relevance_checks import check_relevance
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import NetworkConfig, build_network
from cxr_isnet.objectives import Explanation

SIDE = 64


class Spot(torch.nn.Module):
    """Class 1 by the brightness of rows and columns 16 to 32 alone, the upper zone of the lung on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images[:, 0, 16:32, 16:32].mean((1, 2))
        return torch.stack([-self.gain * seen, self.gain * seen], dim=1)


@pytest.fixture
def classifier():
    return Classifier(
        Spot(), NetworkConfig("densenet_tiny"), ("normal", "ill"), ImageConfig(SIDE, equalize=False), "cross_entropy"
    )


@pytest.fixture
def frame(tmp_path):
    """Six images of four patients; lungs of 24 columns each, those of the last image elsewhere."""
    rows = []
    for number in range(6):
        grey = np.full((2 * SIDE, 2 * SIDE), 40, dtype=np.uint8)
        grey[32:64, 32:64] = 220
        lungs = np.zeros_like(grey)
        lungs[16:112, 8:56] = lungs[16:112, 72:120] = 255
        if number == 5:
            lungs = np.roll(lungs, 60, axis=0)
        for kind, picture in (("image", grey), ("mask", lungs)):
            Image.fromarray(picture).save(tmp_path / f"{kind}{number}.png")
        files = [str(tmp_path / f"{kind}{number}.png") for kind in ("image", "mask")]
        rows.append([*files, "ill", f"p{number % 4}"])
    return pd.DataFrame(rows, columns=["image", "mask", "label", "patient_id"]).assign(site="Alder")


def write(path, text):
    path.write_text(text)
    return str(path)


def checked(classifier, frame, **arguments):
    return check_relevance(classifier, frame, resamples=50, explanation=Explanation.INPUT_GRADIENT, **arguments)


def test_boxes_on_what_the_classifier_looks_at_hold_its_relevance_and_others_none(classifier, frame, tmp_path):
    on = write(tmp_path / "on.csv", "image,x,y,width,height\nimage0.png,32,32,32,32\nimage1.png,32,32,32,32\n")
    off = write(
        tmp_path / "off.csv",
        "image,x,y,width,height,image_width,image_height\nimage0.png,700,600,200,200,1024,1024\n",
    )

    right = checked(classifier, frame, boxes=read_boxes(on))
    wrong = checked(classifier, frame, boxes=read_boxes(off))

    # the lungs have columns 4 to 28, the finding 16 to 32: 12 x 16 of 2 x 24 x 48 pixels
    assert right.table[["path", "pointing", "on_finding"]].values.tolist() == [
        [frame["image"][0], 1, pytest.approx(1)],
        [frame["image"][1], 1, pytest.approx(1)],
    ]
    assert right.table["on_finding_chance"].tolist() == pytest.approx([12 * 16 / (2 * 24 * 48)] * 2)
    assert wrong.table[["pointing", "on_finding"]].values.tolist() == [[0, pytest.approx(0)]]
    assert "pointing_excess" in right.text()


def test_zone_scores_agree_where_the_classifier_looks_and_readers_are_averaged(classifier, frame, tmp_path):
    def table(name, zones):
        cells = ",".join(str(z) for reader in (zones, zones) for z in reader)
        header = ",".join(f"{reader}-{zone}" for reader in "SJ" for zone in "ABCDEF")
        return write(tmp_path / name, f"image,{header}\nimage0.png,{cells}\n")

    # rows 8 to 56 in thirds: what is looked at lies in the first and second zone on the left
    agree = checked(classifier, frame, zones=read_zone_scores(table("a.csv", [3, 3, 0, 0, 0, 0])))
    oppose = checked(classifier, frame, zones=read_zone_scores(table("b.csv", [0, 0, 3, 3, 3, 3])))

    assert agree.table["zone_agreement"].tolist() == pytest.approx([1], abs=0.1)
    assert oppose.table["zone_agreement"].tolist() == pytest.approx([-1], abs=0.1)
    readers = read_zone_scores(write(tmp_path / "c.csv", "image,S-A,J-A,B,C,D,E,F\nimage0.png,1,2,0,0,0,0,0\n"))
    assert readers.zones[frame["image"][0]].tolist() == [1.5, 0, 0, 0, 0, 0]


def test_hiding_what_is_relevant_lowers_the_probability_and_other_lungs_hold_less(classifier, frame):
    found = checked(classifier, frame, hidden=6)

    assert found.table["occlusion_gain"].min() > 0.05
    assert found.table["lung_excess"][0] > 0  # patient 0 alone against the moved lungs of the last image
    assert {"occlusion_gain", "relevance_in_lung", "relevance_in_other_lungs", "lung_excess"} <= set(found.intervals)
    assert len(checked(classifier, frame, hidden=2).table) == 2
    assert checked(classifier, frame).text() == ""


def test_an_image_without_a_mask_or_of_no_known_class_is_not_looked_at(classifier, frame, tmp_path):
    boxes = write(tmp_path / "b.csv", "image,x,y,width,height\n" + "".join(f"image{n}.png,9,9,9,9\n" for n in range(3)))
    frame.loc[0, "mask"], frame.loc[1, "label"] = "", "something else"

    assert checked(classifier, frame, boxes=read_boxes(boxes)).table["path"].tolist() == [frame["image"][2]]


def test_an_image_that_cannot_be_read_stops_no_other(classifier, frame, tmp_path):
    (tmp_path / "image0.png").write_bytes(b"broken")

    assert len(checked(classifier, frame, hidden=6).table) == 5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image,x,y,width\nimage0.png,1,1,1\n", "column 'height' is missing"),
        ("image,x,y,width,height\nimage0.png,500,1,9,9\n", "row 1: no box of an image of 128 x 128"),
        ("image,x,y,width,height\nimage0.png,5,1,0,9\n", "row 1: no box"),
        ("image,x,y,width,height\nimage0.png,a,1,9,9\n", "row 1: no box"),
        ("image,x,y,width,height\nabsent.png,1,1,9,9\n", "cannot be opened"),
        ("image,x,y,width,height,image_width\nimage0.png,1,1,9,9,64\n", "'image_width' alone"),
        ("image,x,y,width,height,label\nimage0.png,1,1,9,9,ill\nimage0.png,1,1,9,9,normal\n", "row 2: gives an image"),
    ],
)
def test_boxes_that_make_no_sense_name_the_row_and_the_remedy(frame, tmp_path, text, problem):
    with pytest.raises(InputError, match=problem):
        read_boxes(write(tmp_path / "b.csv", text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image,A,B,C,D,E\nimage0.png,1,1,1,1,1\n", "no column for zone F"),
        ("image,A,B,C,D,E,F\nimage0.png,1,1,1,1,1,\n", "row 1: lacks a score"),
        ("image,A,B,C,D,E,F\nimage0.png,1,1,1,1,1,1\nimage0.png,1,1,1,1,1,1\n", "row 2: names an image again"),
    ],
)
def test_scores_that_make_no_sense_name_the_row_and_the_remedy(frame, tmp_path, text, problem):
    with pytest.raises(InputError, match=problem):
        read_zone_scores(write(tmp_path / "z.csv", text))


def test_a_table_of_other_images_or_classes_is_an_error(classifier, frame, tmp_path):
    other = write(tmp_path / "sub.csv", "image,A,B,C,D,E,F\nelsewhere/x.png,1,1,1,1,1,1\n")
    labelled = write(tmp_path / "l.csv", "image,label,A,B,C,D,E,F\nimage0.png,covid,1,1,1,1,1,1\n")

    with pytest.raises(InputError, match="none of its 1 images is in the manifests"):
        checked(classifier, frame, zones=read_zone_scores(other))
    with pytest.raises(InputError, match="names 'covid'; the classifier's classes are normal, ill"):
        checked(classifier, frame, zones=read_zone_scores(labelled))


@pytest.mark.realdata
@pytest.mark.slow
def test_maps_of_an_untrained_network_agree_with_real_zone_scores_by_chance(published_sets, real_data_folder, tmp_path):
    """Scores of two radiologists on images of ieee8023 (Signoroni et al. 2021); NIH's boxes."""
    annotations = real_data_folder / "annotations"
    scores = pd.read_csv(annotations / "brixia_scores_for_covid_ieee8023.csv", dtype=str)
    scores["image"] = [str(real_data_folder / path) for path in scores["path"]]
    scores.drop(columns=["filename", "path", "S-Global", "J-Global"]).to_csv(tmp_path / "zones.csv", index=False)
    boxes = pd.read_csv(annotations / "nih_boxes_1024px.csv").rename(columns={"w": "width", "h": "height"})
    boxes["image"] = [str(real_data_folder / path) for path in boxes["path"]]
    boxes.assign(image_width=1024, image_height=1024).to_csv(tmp_path / "boxes.csv", index=False)
    torch.manual_seed(0)
    config = NetworkConfig("densenet_tiny")
    classes = ("normal", "other_pneumonia", "covid")
    untrained = Classifier(build_network(config, 3, 64).eval(), config, classes, ImageConfig(64), "cross_entropy")
    frame = read_manifest(published_sets / "ieee8023" / "manifest.csv")

    found = checked(untrained, frame, zones=read_zone_scores(str(tmp_path / "zones.csv")))

    assert found.table["zone_agreement"].notna().sum() >= 80
    assert abs(found.intervals["zone_excess"].estimate) < 0.1
    assert abs(found.intervals["zone_agreement"].estimate) > 0.2  # lower zones score higher in most
    assert len(read_boxes(str(tmp_path / "boxes.csv")).images) == 44
