"""Miniatures of the large sets whose labels come from reports or from readings of such sets."""

import gzip
import json
from pathlib import Path

from cxr_isnet.manifests.sources.chexpert import OBSERVATIONS

from .files import dicom, table, xray
from .miniature import miniature


@miniature(
    "nih_chestxray14",
    {"normal": 2, "other_pneumonia": 2},
    patients=3,
    dropped={"label 'Hernia' has no class": 1, "several labels, none has a class": 1, "image file is missing": 1},
)
def nih_chestxray14(root: Path) -> None:
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    rows = [
        "00000001_000.png,No Finding,0,1,58,M,PA,2682,2749,0.143,0.143,",
        "00000001_001.png,Pneumonia|Effusion,1,1,59,M,AP,2682,2749,0.143,0.143,",
        "00000002_000.png,Pneumonia,0,2,411,F,PA,2682,2749,0.143,0.143,",
        "00000003_000.png,No Finding,0,3,30,F,PA,2682,2749,0.143,0.143,",
        "00000003_001.png,Hernia,1,3,30,F,PA,2682,2749,0.143,0.143,",
        "00000003_002.png,Hernia|Mass,2,3,30,F,PA,2682,2749,0.143,0.143,",
        "00000004_000.png,Pneumonia,0,4,30,F,PA,2682,2749,0.143,0.143,",
    ]
    (root / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows[:-1]:
        name = row.partition(",")[0]
        xray(root / ("images_001" if name < "00000002" else "images_002") / "images" / name)
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n00000002_000.png\n")
    (root / "test_list.txt").write_text("00000003_000.png\n")


def _observed(**values: object) -> dict[str, object]:
    return {name: values.get(name.replace(" ", "_"), "") for name in OBSERVATIONS}


CHEXPERT_DROPS = {
    "label 'Pneumonia' is uncertain": 1,
    "'normal' beside another label": 1,
    "label 'Edema' has no class": 1,
    "no label": 1,
}


@miniature(
    "chexpert",
    {"normal": 1, "other_pneumonia": 2},
    patients=3,
    dropped={**CHEXPERT_DROPS, "view 'Lateral' is not frontal": 1},
)
def chexpert(root: Path) -> None:
    home = root / "CheXpert-v1.0-small"
    described = [
        ("train/patient00001/study1/view1_frontal.jpg", "Frontal", "PA", {"No_Finding": 1.0, "Support_Devices": 1.0}),
        ("train/patient00001/study2/view1_frontal.jpg", "Frontal", "AP", {"Pneumonia": "-1.0", "Edema": "1.0"}),
        ("train/patient00002/study1/view1_frontal.jpg", "Frontal", "AP", {"Pneumonia": "1.0", "Edema": "-1.0"}),
        ("train/patient00002/study1/view2_lateral.jpg", "Lateral", "", {"Pneumonia": "1.0"}),
        ("train/patient00002/study2/view1_frontal.jpg", "Frontal", "AP", {"Edema": "1.0", "Pneumonia": "0.0"}),
        ("train/patient00002/study3/view1_frontal.jpg", "Frontal", "AP", {"No_Finding": 1, "Pneumothorax": 1}),
        ("train/patient00002/study4/view1_frontal.jpg", "Frontal", "AP", {"Support_Devices": 1}),
        ("valid/patient64541/study1/view1_frontal.jpg", "Frontal", "AP", {"Pneumonia": "1.0"}),
    ]
    for split in ("train", "valid"):
        rows = [
            {
                "Path": f"CheXpert-v1.0-small/{name}",
                "Sex": "Female",
                "Age": 68,
                "Frontal/Lateral": side,
                "AP/PA": view,
                **_observed(**values),
            }
            for name, side, view, values in described
            if name.startswith(split)
        ]
        table(home / f"{split}.csv", rows)
    for name, *_ in described:
        xray(home / name)


@miniature(
    "mimic_cxr_jpg",
    {"normal": 1, "other_pneumonia": 1},
    patients=2,
    dropped={
        **CHEXPERT_DROPS,
        "view 'LATERAL' is not frontal": 1,
        "view is unknown": 1,
    },
)
def mimic_cxr_jpg(root: Path) -> None:
    studies = {
        ("10000032", "50414267"): _observed(No_Finding="1.0"),
        ("10000764", "57375967"): _observed(Pneumonia="1.0", Edema="1.0"),
        ("10000764", "57375968"): _observed(Pneumonia="-1.0"),
        ("10000764", "57375969"): _observed(No_Finding="1.0", Pneumothorax="1.0"),
        ("10000764", "57375970"): _observed(Edema="1.0"),
    }
    images = [
        ("02aa804e", "10000032", "50414267", "PA"),
        ("174413ec", "10000032", "50414267", "LATERAL"),
        ("2a2277a9", "10000764", "57375967", "AP"),
        ("b79e55c3", "10000764", "57375967", ""),
        ("cccccccc", "10000764", "57375968", "AP"),
        ("dddddddd", "10000764", "57375969", "AP"),
        ("eeeeeeee", "10000764", "57375970", "AP"),
        ("ffffffff", "10000764", "59999999", "AP"),
    ]
    tables = {
        "chexpert": [{"subject_id": p, "study_id": s, **values} for (p, s), values in studies.items()],
        "metadata": [{"dicom_id": d, "subject_id": p, "study_id": s, "ViewPosition": v} for d, p, s, v in images],
        "split": [{"dicom_id": d, "study_id": s, "subject_id": p, "split": "train"} for d, p, s, _ in images],
    }
    for name, rows in tables.items():
        plain = table(root / f"mimic-cxr-2.0.0-{name}.csv", rows)
        plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    for image, subject, study, _ in images:
        xray(root / f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg")


@miniature(
    "padchest",
    {"normal": 2, "other_pneumonia": 2, "tuberculosis": 1},
    patients=3,
    dropped={
        "label 'exclude' excludes the image": 1,
        "labels of several classes: other_pneumonia + tuberculosis": 1,
        "view 'L' is not frontal": 1,
        "view 'COSTAL' is not frontal": 1,
        "view is unknown": 1,
        "'normal' beside another label": 1,
        "label 'scoliosis' has no class": 1,
        "no label": 1,
    },
)
def padchest(root: Path) -> None:
    described = [
        ("a.png", 0, "P1", "PA", "['normal']"),
        ("b.png", 0, "P1", "AP_horizontal", "['pneumonia', 'pleural effusion', ' pneumonia']"),
        ("c.png", 54, "P2", "AP", '["atypical pneumonia"]'),
        ("d.png", 54, "P2", "PA", "['unchanged', 'normal']"),
        ("e.png", 54, "P3", "PA", "['tuberculosis', 'cavitation']"),
        ("f.png", 54, "P3", "PA", "['exclude', 'pneumonia']"),
        ("g.png", 54, "P3", "PA", "['pneumonia', 'tuberculosis']"),
        ("h.png", 54, "P3", "L", "['normal']"),
        ("i.png", 54, "P3", "COSTAL", "['normal']"),
        ("j.png", 54, "P3", "UNK", "['normal']"),
        ("k.png", 54, "P3", "PA", "['normal', 'scoliosis']"),
        ("l.png", 54, "P3", "PA", "['scoliosis']"),
        ("m.png", 54, "P3", "PA", ""),
    ]
    rows = [
        {
            "ImageID": name,
            "ImageDir": folder,
            "StudyDate_DICOM": "20140915",
            "StudyID": "S",
            "PatientID": patient,
            "PatientBirth": "1930.0",
            "PatientSex_DICOM": "F",
            "Projection": view,
            "Labels": labels,
        }
        for name, folder, patient, view, labels in described
    ]
    for row in rows:
        xray(root / str(row["ImageDir"]) / str(row["ImageID"]))
        row["Labels"] = str(row["Labels"]).replace('"', '""') if "," not in str(row["Labels"]) else row["Labels"]
    rows[2]["Labels"] = f'"{rows[2]["Labels"]}"'
    table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", rows)


@miniature(
    "rsna_pneumonia",
    {"normal": 1, "other_pneumonia": 2},
    patients=2,
    dropped={"label 'No Lung Opacity / Not Normal' has no class": 1},
)
def rsna_pneumonia(root: Path) -> None:
    described = [
        ("0004cfab", "No Lung Opacity / Not Normal", "00000001_000.png"),
        ("00313ee0", "Normal", "00000002_000.png"),
        ("00436515", "Lung Opacity", "00000002_001.png"),
        ("00436515", "Lung Opacity", "00000002_001.png"),
        ("00704310", "Lung Opacity", "00000005_000.png"),
    ]
    table(root / "stage_2_detailed_class_info.csv", [{"patientId": name, "class": c} for name, c, _ in described])
    for name, *_ in described:
        dicom(root / "stage_2_train_images" / f"{name}.dcm", jpeg=True, ViewPosition="AP", PatientAge="051Y")
    mappings = [{"subset_img_id": name, "img_id": nih} for name, _, nih in described]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mappings))


@miniature(
    "vindr_cxr",
    {"normal": 2, "other_pneumonia": 1, "tuberculosis": 1},
    patients=4,
    dropped={"label 'Pneumonia' is uncertain": 1, "label 'Other diseases' has no class": 1},
)
def vindr_cxr(root: Path) -> None:
    findings = ("No finding", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases")
    votes = {
        "agreed": ["No finding"] * 3,
        "two_of_three": ["Pneumonia", "Pneumonia", "Other diseases"],
        "one_of_three": ["Pneumonia", "Other diseases", "Other diseases"],
        "no_class": ["Other diseases"] * 3,
    }
    train = [
        {"image_id": image, "rad_id": f"R{reader}", **{name: int(name == vote) for name in findings}}
        for image, marks in votes.items()
        for reader, vote in enumerate(marks)
    ]
    test = [
        {"image_id": image, **{name: int(name == vote) for name in findings}}
        for image, vote in (("t1", "No finding"), ("t2", "Tuberculosis"))
    ]
    for split, rows in (("train", train), ("test", test)):
        table(root / f"annotations/image_labels_{split}.csv", rows)
        for row in rows:
            # the publisher's de-identification leaves a few elements; these are not among them
            gone = ("SOPClassUID", "SOPInstanceUID", "Modality", "BodyPartExamined", "PatientID", "ViewPosition")
            dicom(root / split / f"{row['image_id']}.dicom", **dict.fromkeys(gone))
