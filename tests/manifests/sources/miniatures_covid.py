"""Miniatures of the sets with COVID-19."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from .files import SIZE, dicom, grey_values, picture, table, xray
from .miniature import miniature


def stored_values(path: Path, *, photometric: str = "MONOCHROME1", bits: int = 12) -> Path:
    """An X-ray as a detector stores it, in a 16-bit PNG, and its DICOM tags in a JSON beside it."""
    grey = grey_values(path.name)
    largest = 2**bits - 1
    stored = np.rint(largest * (1 - grey if photometric == "MONOCHROME1" else grey)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).save(path)
    tags = {
        "00080060": {"vr": "CS", "Value": ["DX"]},
        "00280004": {"vr": "CS", "Value": [photometric]},
        "00280101": {"vr": "US", "Value": [bits]},
        "00281050": {"vr": "DS", "Value": [2 ** (bits - 1)]},
        "00281051": {"vr": "DS", "Value": [2**bits]},
    }
    path.with_suffix(".json").write_text(json.dumps(tags))
    return path


@miniature(
    "bimcv_covid19",
    {"covid": 3},
    patients=2,
    dropped={
        "label 'COVID 19 uncertain' has no class": 1,
        "label 'normal' has no class": 1,
        "label 'not a radiograph by its name' has no class": 1,
        "view 'll' is not frontal": 1,
        "no label": 1,
    },
)
def bimcv_covid19(root: Path) -> None:
    head = root / "bimcv_covid19_posi_head_iter1"
    images = {
        ("sub-S03044", "ses-E06147"): ["run-1_bp-chest_vp-pa_dx", "acq-2_run-1_bp-chest_vp-ll_dx", "run-2_bp-chest_ct"],
        ("sub-S03044", "ses-E06148"): ["run-1_bp-chest_vp-ap_cr"],
        ("sub-S03045", "ses-E06149"): ["run-1_bp-chest_vp-ap_cr"],
        ("sub-S03045", "ses-E06150"): ["run-1_bp-chest_vp-ap_cr"],
        ("sub-S03045", "ses-E06151"): ["run-1_bp-chest_vp-ap_cr"],
        ("sub-S03045", "ses-E06152"): ["run-1_bp-chest_vp-ap_cr"],
    }
    labels = {
        "ses-E06147": "['COVID 19', 'pneumonia', 'ground glass pattern']",
        "ses-E06148": "['COVID 19' 'ground glass pattern']",
        "ses-E06149": "['COVID 19']",
        "ses-E06150": "['COVID 19 uncertain']",
        "ses-E06151": "['normal']",
    }
    for (subject, session), names in images.items():
        for name in names:
            stored_values(root / f"bimcv_subjects_1/{subject}/{session}/mod-rx/{subject}_{session}_{name}.png")
    sessions = [
        {"PatientID": subject, "ReportID": session, "Labels": labels[session]}
        for subject, session in images
        if session in labels
    ]
    table(head / "derivatives/labels/labels_covid19_posi.tsv", sessions, "\t")
    people = [
        {"participant": "sub-S03044", "modality_dicom": "['DX']", "gender": "M", "age": "[67]"},
        {"participant": "sub-S03045", "modality_dicom": "['CR']", "gender": "F", "age": "[]"},
    ]
    table(head / "participants.tsv", people, "\t")


@miniature("brixia", {"covid": 3}, patients=2, dropped={"image file is missing": 1})
def brixia(root: Path) -> None:
    described = [("1.dcm", "9", "000000", 0, 13), ("2.dcm", "9", "112233", 12, 13), ("3.dcm", "10", "100000", 1, 0)]
    rows = [
        {
            "Filename": name,
            "Modality": "CR",
            "BrixiaScore": zones,
            "BrixiaScoreGlobal": score,
            "Subject": patient,
            "Sex": "M",
            "AgeAtStudyDateFiveYear": group,
        }
        for name, patient, zones, score, group in [*described, ("4.dcm", "10", "100000", 1, 0)]
    ]
    table(root / "metadata_global_v2.csv", rows, ";")
    for name, *_ in described:
        dicom(
            root / "dicom_clean" / name,
            PatientSex=None,
            PatientAge=None,
            PhotometricInterpretation="MONOCHROME1" if name == "2.dcm" else "MONOCHROME2",
            ViewPosition=None if name == "3.dcm" else "AP",
        )


@miniature(
    "ieee8023",
    {"covid": 3, "other_pneumonia": 2, "normal": 1, "tuberculosis": 1},
    patients=6,
    dropped={
        "label 'Pneumonia' has no class": 1,
        "label 'Pneumonia/Viral' has no class": 1,
        "label 'todo' has no class": 1,
        "label 'modality CT' has no class": 1,
        "view 'L' is not frontal": 1,
    },
    masks=1,
)
def ieee8023(root: Path) -> None:
    home = root / "covid-chestxray-dataset"
    covid = "Pneumonia/Viral/COVID-19"
    described = [
        ("2", covid, "PA", "X-ray", "", "a.jpeg", "CC BY-NC-SA"),
        ("2", covid, "AP Supine", "X-ray", "Cho Ray Hospital, Ho Chi Minh City, Vietnam", "b.jpg", ""),
        ("4", covid, "AP", "X-ray", "", "c.png", "CC BY"),
        ("4", covid, "L", "X-ray", "", "d.png", "CC BY"),
        ("4", covid, "Axial", "CT", "", "e.png", "CC BY"),
        ("5", "Pneumonia/Bacterial/Streptococcus", "PA", "X-ray", "Essen, Germany", "f.png", "CC BY"),
        ("6", "Pneumonia/Viral/SARS", "PA", "X-ray", "China", "g.png", "CC BY"),
        ("7", "No Finding", "PA", "X-ray", "China", "h.png", "CC BY"),
        ("8", "Tuberculosis", "AP Erect", "X-ray", "China", "i.png", "CC BY"),
        ("9", "Pneumonia", "PA", "X-ray", "China", "j.png", "CC BY"),
        ("9", "Pneumonia/Viral", "PA", "X-ray", "China", "k.png", "CC BY"),
        ("9", "todo", "PA", "X-ray", "China", "l.png", "CC BY"),
    ]
    rows = [
        {
            "patientid": patient,
            "offset": 0,
            "sex": "M",
            "age": 65,
            "finding": finding,
            "view": view,
            "modality": modality,
            "location": location,
            "folder": "images",
            "filename": name,
            "license": licence,
        }
        for patient, finding, view, modality, location, name, licence in described
    ]
    table(home / "metadata.csv", rows)
    for row in rows:
        xray(home / "images" / str(row["filename"]))
    picture(home / "annotations/lungVAE-masks/a_mask.png", size=SIZE, grey=255)


@miniature("actualmed", {"covid": 1, "normal": 1}, patients=2, dropped={"no label": 1})
def actualmed(root: Path) -> None:
    home = root / "Actualmed-COVID-chestxray-dataset"
    described = [("ANON196", ""), ("ANON56", "No finding"), ("ANON196", "COVID-19")]
    rows = [
        {
            "patientid": patient,
            "sex": "",
            "age": "",
            "finding": finding,
            "view": "PA",
            "modality": "X-ray",
            "imagename": f"CR.1.2.840.{number}.png",
            "notes": "Inconclusive, date taken (YYYYMMDD): 20200313",
        }
        for number, (patient, finding) in enumerate(described)
    ]
    table(home / "metadata.csv", rows)
    for row in rows:
        xray(home / "images" / str(row["imagename"]))


@miniature("hannover", {"covid": 2}, patients=2, dropped={"view 'lateral' is not frontal": 1})
def hannover(root: Path) -> None:
    home = root / "covid-19-image-repository"
    described = [
        ("042f06a9", "b343e657", "m", "ap"),
        ("0a359802", "61bc50d1", "w", "pa"),
        ("0a359802", "s", "w", "lateral"),
    ]
    rows = [
        {"patient_id": patient, "image_id": image, "sex": sex, "age": "", "modality": "CR", "projection": view}
        for patient, image, sex, view in described
    ]
    table(home / "data.csv", rows)
    for row in rows:
        xray(home / "png" / f"{row['image_id']}.png")


@miniature("covid19_radiography", {"covid": 1, "other_pneumonia": 2, "normal": 1}, patients=4, masks=1)
def covid19_radiography(root: Path) -> None:
    home = root / "COVID-19_Radiography_Dataset"
    for folder in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        xray(home / folder / "images" / f"{folder}-1.png", size=(299, 299))
    picture(home / "COVID" / "masks" / "COVID-1.png", size=(256, 256), grey=255)
