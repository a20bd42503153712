"""Miniatures of the sets with tuberculosis."""

import json
from pathlib import Path

import numpy as np

from .files import SIZE, dicom, grey_values, picture, table, xray
from .miniature import miniature


@miniature("shenzhen", {"normal": 2, "tuberculosis": 1}, patients=3, masks=2)
def shenzhen(root: Path) -> None:
    home = root / "ChinaSet_AllFiles"
    readings = {
        "CHNCXR_0001_0": "male 45yrs\nnormal\n",
        "CHNCXR_0026_0": "Female, 16month\nnormal",
        "CHNCXR_0327_1": "femal 32yrs\n right PTB\n",
    }
    for name, reading in readings.items():
        xray(home / "CXR_png" / f"{name}.png")
        text = home / "ClinicalReadings" / f"{name}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text(reading)
    for name in ("CHNCXR_0001_0", "CHNCXR_0327_1"):
        picture(home / "mask" / "mask" / f"{name}_mask.png", size=SIZE, grey=255)


@miniature("montgomery", {"normal": 1, "tuberculosis": 2}, patients=3, masks=1)
def montgomery(root: Path) -> None:
    home = root / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1", "MCUCXR_0108_1"):
        xray(home / "CXR_png" / f"{name}.png")
        text = home / "ClinicalReadings" / f"{name}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text("Patient's Sex: F \nPatient's Age: 027Y\nnormal")
    columns = np.arange(SIZE[0])
    for side, lung in (("leftMask", columns >= 32), ("rightMask", columns < 16)):
        picture(home / "ManualMask" / side / "MCUCXR_0001_0.png", size=SIZE, grey=np.where(lung, 255, 0))
    xray(home / "ManualMask" / "leftMask" / "MCUCXR_0104_1.png")


@miniature(
    "tbx11k",
    {"normal": 2, "tuberculosis": 2},
    patients=4,
    dropped={
        "label 'sick' has no class": 1,
        "label 'ObsoletePulmonaryTuberculosis' has no class": 1,
        "label 'tb without a box' has no class": 1,
        "label 'test set, labels not published' has no class": 1,
        "label 'extra, another publisher's set' has no class": 2,
    },
)
def tbx11k(root: Path) -> None:
    home = root / "TBX11K"
    lists = {
        "train": ["health/h0001.png", "sick/s0001.png", "tb/tb0003.png", "tb/tb0135.png", "tb/tb1199.png"],
        "val": ["health/h0002.png", "tb/tb0005.png"],
    }
    boxes = {"tb0003.png": [1], "tb0135.png": [1, 2, 2], "tb0005.png": [2]}
    names = {1: "ActiveTuberculosis", 2: "ObsoletePulmonaryTuberculosis"}
    for split, images in lists.items():
        for name in images:
            xray(home / "imgs" / name)
        content = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(images)],
            "categories": [{"id": number, "name": name} for number, name in names.items()],
            "annotations": [
                {"image_id": number, "category_id": category}
                for number, name in enumerate(images)
                for category in boxes.get(Path(name).name, [])
            ],
        }
        for path, text in (
            (home / f"annotations/json/TBX11K_{split}.json", json.dumps(content)),
            (home / f"lists/TBX11K_{split}.txt", "\n".join(images) + "\n"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    xray(home / "imgs/test/test_0001.png")
    xray(home / "imgs/extra/mc+shenzhen/train/MCUCXR_0001_0.png")
    xray(home / "imgs/extra/da+db/train/px1.jpg")


@miniature(
    "tb_portals",
    {"tuberculosis": 3},
    patients=2,
    dropped={
        "label 'outlier by the publisher' excludes the image": 1,
        "view 'lateral' is not frontal": 1,
        "view is unknown": 1,
        "image file is missing": 1,
    },
)
def tb_portals(root: Path) -> None:
    images = root / "TB_Portals_Published_CXRs_August_2023"
    described = [
        ("p1/a.dcm", "p1", "Moldova", "inlier", {}),
        ("p1/b.dcm", "p1", "Moldova", "inlier", {"ViewPosition": "AP", "PatientSex": "M", "PatientAge": "060Y"}),
        ("p1/side.dcm", "p1", "Moldova", "inlier", {"ViewPosition": "LL"}),
        ("p1/odd.dcm", "p1", "Moldova", "outlier", {}),
        ("p2/c.dcm", "p2", "Romania", "inlier", {}),
        ("p2/unsaid.dcm", "p2", "Romania", "inlier", {"ViewPosition": None}),
        ("p2/elsewhere.dcm", "p2", "Romania", "inlier", None),
    ]
    for name, _, _, _, tags in described:
        folder = images / "GlobalBucket" if name == "p2/c.dcm" else images
        if tags is not None:
            dicom(folder / name, **tags)
    rows = [
        {"patient_id": p, "condition_id": f"c{p}", "country": c, "series_instance_content_url": n, "cxr_outlier": o}
        for n, p, c, o, _ in described
    ]
    table(root / "TB_Portals_CXRs_August_2023.csv", rows)
    table(root / "TB_Portals_CXRs_August_2023_manifest.csv", [{"file": "p1/a.dcm", "zip": "part_01_of_20.zip"}])


@miniature("jsrt", {"nodule": 2, "no_nodule": 1}, patients=3, masks=1)
def jsrt(root: Path) -> None:
    density = np.rint(4095 * (1 - grey_values("JPCLN001", (2048, 2048))))
    (root / "All247images").mkdir()
    density.astype(">u2").tofile(root / "All247images" / "JPCLN001.IMG")
    for name in ("JPCLN002.png", "JPCNN001.png"):  # as someone else has converted them
        xray(root / "All247images" / name, size=(64, 64))
    for side, lung in (("left lung", np.arange(1024) >= 600), ("right lung", np.arange(1024) < 400)):
        grey = np.where(lung, 255, 0)
        picture(root / f"scratch/fold1/masks/{side}/JPCLN001.gif", size=(1024, 1024), grey=grey)
    (root / "Clinical_Information").mkdir()
    nodules = "JPCLN001.IMG\t5\t15\t53\tMale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\r\n"
    nodules += "JPCLN002.IMG\t5\t30\t?\tFemale\t1134\t792\tbenign\tr.lower lobe\tgranuloma\r\n"
    (root / "Clinical_Information" / "CLNDAT_EN.txt").write_text(nodules)
    (root / "Clinical_Information" / "CNNDAT_EN.TXT").write_text("JPCNN001.IMG  62   female  non-nodule\r\n")
