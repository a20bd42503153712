"""Where a set's own spelling or habits would mislead a plain reader."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_isnet.errors import InputError
from cxr_isnet.imaging import read_image
from cxr_isnet.manifests import read_manifests
from cxr_isnet.manifests.building import build_manifest
from cxr_isnet.manifests.source_parsing.nlm_readings import parse_clinical_reading, parse_name
from cxr_isnet.manifests.sources import find_source

from .files import SIZE, dicom, grey_values, picture, table, xray
from .miniature import MINIATURES
from .miniatures_covid import stored_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("male 45yrs\nnormal", ("M", 45)),
        ("female, 28yrs\nright PTB", ("F", 28)),
        ("femal 32yrs", ("F", 32)),
        ("Male  18 yrs\nTB of the left lung 3 months ago", ("M", 18)),
        ("male 24month\nnormal", ("M", 2)),
        ("Patient's Sex: F \nPatient's Age: 027Y\nnormal", ("F", 27)),
        ("Patient's Sex: M\nPatient's Age: 000Y\nnormal", ("M", 0)),
        ("normal", ("", None)),
    ],
)
def test_clinical_readings_of_the_tuberculosis_sets(text, expected):
    assert parse_clinical_reading(text) == expected


def test_a_foreign_file_among_the_tuberculosis_images_is_named():
    with pytest.raises(InputError, match=r"Thumbs\.png: the name is not like"):
        parse_name(Path("Thumbs.png"))


def test_shenzhen_has_sex_and_age_and_finds_masks_where_they_were_unpacked(built):
    row = built("shenzhen").row("CHNCXR_0327_1.png")

    assert (row["patient_id"], row["sex"], row["age"]) == ("CHNCXR_0327", "F", 32)
    assert row["mask"].endswith("mask/mask/CHNCXR_0327_1_mask.png")
    assert built("shenzhen").row("CHNCXR_0026_0.png")["age"] == pytest.approx(16 / 12, abs=0.01)


def test_montgomery_unites_both_lungs_and_takes_no_half(built):
    whole, half = (built("montgomery").row(f"MCUCXR_{name}.png") for name in ("0001_0", "0104_1"))

    assert np.asarray(Image.open(whole["mask"]))[0].tolist() == [255] * 16 + [0] * 16 + [255] * 16
    assert half["mask"] == ""
    assert built("montgomery").report.notes == {"mask file is missing": 1}


def test_tbx11k_reads_the_kind_of_tuberculosis_from_the_boxes(built):
    frame = built("tbx11k").frame.set_index("patient_id")

    assert frame.loc["tb0135", "label"] == "tuberculosis"
    assert not {"tb0005", "tb1199", "s0001"} & set(frame.index)
    assert frame.loc["h0002", "official_split"] == "val"


def test_tbx11k_with_broken_annotations_names_the_file(tmp_path):
    MINIATURES["tbx11k"].make(tmp_path)
    (tmp_path / "TBX11K/annotations/json/TBX11K_val.json").write_text(json.dumps({"images": [{"id": 1}]}))

    with pytest.raises(InputError, match=r"TBX11K_val\.json: not a COCO annotation file: KeyError"):
        build_manifest(find_source("tbx11k"), tmp_path, tmp_path / "table.csv")


def test_tb_portals_takes_the_table_of_images_not_of_archives(built):
    frame = built("tb_portals").frame

    assert sorted(frame["site"]) == ["TB Portals, Moldova", "TB Portals, Moldova", "TB Portals, Romania"]
    assert sorted(frame["sex"]) == ["F", "F", "M"]
    assert sorted(frame["age"]) == [41, 41, 60]


def test_nih_patients_are_the_first_eight_digits_of_the_name(built):
    row = built("nih_chestxray14").row("00000001_001.png")

    assert (row["patient_id"], row["label"], row["view"], row["sex"], row["age"]) == (
        "nih-00000001",
        "other_pneumonia",
        "AP",
        "M",
        59,
    )
    assert built("nih_chestxray14").report.notes == {"age is not from 0 to 120": 1}
    assert built("nih_chestxray14").row("00000003_000.png")["official_split"] == "test"


def test_nih_later_release_calls_gender_sex(tmp_path):
    MINIATURES["nih_chestxray14"].make(tmp_path)
    old = tmp_path / "Data_Entry_2017.csv"
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(old.read_text().replace("Patient Gender", "Patient Sex"))
    old.unlink()

    build_manifest(find_source("nih_chestxray14"), tmp_path, tmp_path / "table.csv")

    assert set(read_manifests([tmp_path / "table.csv"])["sex"]) == {"M", "F"}


def test_chexpert_devices_do_not_spoil_a_normal_and_uncertain_edema_no_pneumonia(built):
    frame = built("chexpert").frame

    assert [Path(image).parts[-3:-1] for image in frame["image"]] == [
        ("patient00001", "study1"),
        ("patient00002", "study1"),
        ("patient64541", "study1"),
    ]
    assert frame["label"].tolist() == ["normal", "other_pneumonia", "other_pneumonia"]
    assert frame["official_split"].tolist() == ["train", "train", "valid"]


def test_mimic_labels_are_per_study_and_views_per_image(built):
    frame = built("mimic_cxr_jpg").frame

    assert [Path(image).stem for image in frame["image"]] == ["02aa804e", "2a2277a9"]
    assert frame["view"].tolist() == ["PA", "AP"]
    assert frame["patient_id"].tolist() == ["10000032", "10000764"]


def test_padchest_reads_lists_and_years_of_birth(built):
    rows = {name: built("padchest").row(f"{name}.png") for name in "abcde"}

    assert {name: row["label"] for name, row in rows.items()} == {
        "a": "normal",
        "b": "other_pneumonia",
        "c": "other_pneumonia",
        "d": "normal",
        "e": "tuberculosis",
    }
    assert (rows["b"]["view"], rows["b"]["age"]) == ("AP", 84)


def test_rsna_images_of_one_patient_are_one_patient_and_known_to_nih(built):
    frame = built("rsna_pneumonia").frame

    assert frame["patient_id"].tolist() == ["nih-00000002", "nih-00000002", "nih-00000005"]
    assert frame["site"].unique().tolist() == built("nih_chestxray14").frame["site"].unique().tolist()


def test_rsna_without_mappings_counts_each_image_as_a_patient(tmp_path):
    MINIATURES["rsna_pneumonia"].make(tmp_path)
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").unlink()

    report = build_manifest(find_source("rsna_pneumonia"), tmp_path, tmp_path / "table.csv")

    assert report.patients == report.rows == 3


def test_rsna_mappings_of_another_kind_are_an_error(tmp_path):
    MINIATURES["rsna_pneumonia"].make(tmp_path)
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text('[{"id": 1}]')

    with pytest.raises(InputError, match=r"mappings_2018\.json: not RSNA's list of mappings"):
        build_manifest(find_source("rsna_pneumonia"), tmp_path, tmp_path / "table.csv")


def test_vindr_counts_what_two_of_three_readers_mark(built):
    frame = built("vindr_cxr").frame.set_index("patient_id")

    assert frame["label"].to_dict() == {
        "agreed": "normal",
        "two_of_three": "other_pneumonia",
        "t1": "normal",
        "t2": "tuberculosis",
    }
    assert frame.loc["t1", "official_split"] == "test"
    assert frame["view"].eq("PA").all()


def test_vindr_marks_that_are_no_numbers_are_an_error(tmp_path):
    MINIATURES["vindr_cxr"].make(tmp_path)
    table = tmp_path / "annotations/image_labels_test.csv"
    table.write_text(table.read_text().replace(",1", ",yes"))

    with pytest.raises(InputError, match=r"image_labels_test\.csv: a label is not 0 or 1"):
        build_manifest(find_source("vindr_cxr"), tmp_path, tmp_path / "table.csv")


def test_bimcv_reads_labels_of_a_session_whatever_divides_them(built):
    frame = built("bimcv_covid19").frame

    assert frame["view"].tolist() == ["PA", "AP", "AP"]
    assert frame["age"].tolist()[:2] == [67, 67]
    assert frame["age"].isna().tolist() == [False, False, True]


def test_brixia_ages_are_the_middle_of_five_years_and_the_score_is_kept(built):
    frame = built("brixia").frame

    assert frame["age"].tolist() == [67, 67, 2]
    assert frame["brixia_score"].tolist() == ["0", "12", "1"]
    assert frame["view"].tolist() == ["AP", "AP", ""]


def test_ieee8023_is_one_site_and_an_image_has_its_own_location_and_licence(built):
    frame = built("ieee8023").frame.set_index("patient_id")

    assert frame["site"].nunique() == 1
    assert frame.loc["ieee8023-2", "location"].tolist() == ["", "Cho Ray Hospital, Ho Chi Minh City, Vietnam"]
    assert frame.loc["ieee8023-2", "licence"].tolist() == ["CC BY-NC-SA", "not stated"]


def test_hannover_women_are_w(built):
    assert built("hannover").frame.set_index("patient_id")["sex"].to_dict() == {"042f06a9": "M", "0a359802": "F"}


def test_radiography_masks_are_enlarged_and_class_and_site_are_one(built):
    frame = built("covid19_radiography").frame

    mask = Path(frame["mask"].max())
    assert mask.parts[-4:] == ("covid19_radiography_masks", "COVID", "images", "COVID-1.png")
    assert (frame.groupby("site")["label"].nunique() == 1).all()


def test_a_broken_dicom_file_is_dropped_and_the_rest_built(tmp_path):
    MINIATURES["brixia"].make(tmp_path)
    (tmp_path / "dicom_clean" / "1.dcm").write_bytes(b"<html>")
    dicom(tmp_path / "dicom_clean" / "4.dcm", ViewPosition="LL")

    report = build_manifest(find_source("brixia"), tmp_path, tmp_path / "table.csv")

    assert report.dropped == {"DICOM header cannot be read": 1, "view 'lateral' is not frontal": 1}
    assert report.rows == 2


def build(name, root, **settings):
    table = root.with_name("table.csv")
    return build_manifest(find_source(name), root, table, **settings), table


@pytest.fixture
def download(tmp_path):
    (tmp_path / "download").mkdir()
    return tmp_path / "download"


def chexpert_in_batches(root):
    """As Stanford ships the full size: https://stanfordaimi.azurewebsites.net lists four archives of these names."""
    MINIATURES["chexpert"].make(root)
    small = (root / "CheXpert-v1.0-small").rename(root / "old")
    first, second, third = (
        root / f"CheXpert-v1.0 batch {words}" for words in ("1 (validate & csv)", "2 (train 1)", "3 (train 2)")
    )
    for folder in (first, second, third):
        folder.mkdir()
    (small / "valid").rename(first / "valid")
    (small / "train" / "patient00001").rename(second / "patient00001")
    (small / "train" / "patient00002").rename(third / "patient00002")
    for split in ("train", "valid"):
        text = (small / f"{split}.csv").read_text().replace("CheXpert-v1.0-small", "CheXpert-v1.0")
        (first / f"{split}.csv").write_text(text)
    return first


def test_chexpert_in_batch_folders_is_the_same_set(download, built):
    chexpert_in_batches(download)

    report, table = build("chexpert", download)

    frame, small = read_manifests([table]), built("chexpert").frame
    assert report.dropped == built("chexpert").report.dropped
    assert sorted(frame["patient_id"]) == sorted(small["patient_id"])
    assert sorted(frame["label"]) == sorted(small["label"])


def test_chexpert_with_the_first_batch_alone_says_where_images_were_looked_for(download):
    first = chexpert_in_batches(download)
    for batch in ("2 (train 1)", "3 (train 2)"):
        (download / f"CheXpert-v1.0 batch {batch}").rename(download.parent / batch)

    with pytest.raises(InputError) as error:
        build("chexpert", download)

    assert "2 of 3 images of CheXpert are missing. Looked for train/patient00001/study1/view1_frontal.jpg" in str(
        error.value
    )
    assert "CheXpert-v1.0 batch 2 (train 1)/patient00001" in str(error.value)  # the layout that is expected
    assert build("chexpert", first, partial=True)[0].rows == 1


@pytest.mark.parametrize(("photometric", "bits"), [("MONOCHROME1", 12), ("MONOCHROME2", 10), ("MONOCHROME1", 16)])
def test_bimcv_pictures_are_rendered_by_the_json_beside_them(photometric, bits, download):
    """PS3.3 C.7.6.3.1.2: MONOCHROME1's smallest value is white; C.11.2: the window is the whole range here."""
    MINIATURES["bimcv_covid19"].make(download)
    path = next(download.rglob("*_run-1_bp-chest_vp-pa_dx.png"))
    stored_values(path, photometric=photometric, bits=bits)

    _, table = build("bimcv_covid19", download)

    image = next(name for name in read_manifests([table])["image"] if name.endswith(path.name))
    np.testing.assert_allclose(read_image(image), grey_values(path.name), atol=2 / 2**bits)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.with_suffix(".json").unlink(), "no JSON beside the image says how it is rendered"),
        (lambda path: path.with_suffix(".json").write_text("{"), "cannot be rendered by the JSON beside it"),
        (lambda path: stored_values(path, bits=10) and turned(path), "view 'lateral' is not frontal"),
    ],
)
def test_bimcv_pictures_that_cannot_be_rendered_are_dropped_with_the_reason(change, reason, download):
    MINIATURES["bimcv_covid19"].make(download)
    change(next(download.rglob("*_run-1_bp-chest_vp-pa_dx.png")))

    report, _ = build("bimcv_covid19", download)

    assert report.dropped[reason] == 1
    assert report.rows == 2


def turned(path):
    tags = json.loads(path.with_suffix(".json").read_text())
    tags["00185101"] = {"vr": "CS", "Value": ["LL"]}
    path.with_suffix(".json").write_text(json.dumps(tags))


def padchest_of(root, largest, photometric, *, inverted=False):
    """Three normal PA images whose pictures reach `largest`."""
    rows = []
    for number in range(3):
        name = f"{number}.png"
        grey = grey_values(name)
        stored = np.rint(largest * (1 - grey if inverted else grey)).astype(np.uint16)
        (root / "0").mkdir(exist_ok=True)
        Image.fromarray(stored).save(root / "0" / name)
        rows.append(
            {
                "ImageID": name,
                "ImageDir": 0,
                "StudyDate_DICOM": "20140915",
                "PatientID": f"P{number}",
                "PatientBirth": "1930.0",
                "PatientSex_DICOM": "F",
                "Projection": "PA",
                "PhotometricInterpretation_DICOM": photometric,
                "BitsStored_DICOM": 12,
                "WindowCenter_DICOM": 2048.0,
                "WindowWidth_DICOM": 4096.0,
                "Labels": "['normal']",
            }
        )
    table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", rows)


@pytest.mark.parametrize(
    ("largest", "photometric", "inverted", "rendered"),
    [
        (65535, "MONOCHROME2", False, 0),  # as its publisher has windowed it
        (65535, "MONOCHROME1", False, 0),  # and turned over
        (65535, "MONOCHROME1", True, 3),
        (4095, "MONOCHROME2", False, 3),  # stored values
        (4095, "MONOCHROME1", True, 3),
    ],
)
def test_padchest_pictures_are_no_negatives_and_not_dark(largest, photometric, inverted, rendered, download):
    padchest_of(download, largest, photometric, inverted=inverted)

    report, table = build("padchest", download)

    assert report.rendered == rendered
    for image in read_manifests([table])["image"]:
        np.testing.assert_allclose(read_image(image), grey_values(Path(image).name), atol=1e-3)


def test_padchest_images_may_lie_in_one_folder(download):
    padchest_of(download, 65535, "MONOCHROME2")
    (download / "0").rename(download / "images")

    assert build("padchest", download)[0].rows == 3


def test_jsrt_large_values_are_dark(built):
    """As public readers of the set take it: 1 - value / 4096."""
    frame = built("jsrt").frame.set_index("patient_id")

    np.testing.assert_allclose(
        read_image(frame.loc["jsrt-JPCLN001", "image"]), grey_values("JPCLN001", (2048, 2048)), atol=1e-3
    )
    assert built("jsrt").report.rendered == 1
    assert frame["sex"].to_dict() == {"jsrt-JPCLN001": "M", "jsrt-JPCLN002": "F", "jsrt-JPCNN001": "F"}
    assert frame["age"].fillna(-1).to_dict() == {"jsrt-JPCLN001": 53, "jsrt-JPCLN002": -1, "jsrt-JPCNN001": 62}


def test_jsrt_unites_the_lungs_of_scr_at_the_size_of_the_image(built):
    mask = np.asarray(Image.open(built("jsrt").frame.set_index("patient_id").loc["jsrt-JPCLN001", "mask"]))

    assert mask.shape == (2048, 2048)
    assert [mask[0, column] for column in (0, 799, 801, 1198, 1201, 2047)] == [255, 255, 0, 0, 255, 255]


def test_jsrt_files_of_another_size_are_dropped(download):
    MINIATURES["jsrt"].make(download)
    (download / "All247images" / "JPCNN002.IMG").write_bytes(b"\0" * 100)

    assert build("jsrt", download)[0].dropped == {"not 2048 x 2048 pixels of 12 bits": 1}


def kaggle_masks_and_labels(root):
    """https://www.kaggle.com/datasets/nikhilpandey360/chest-xray-masks-and-labels: both sets in one folder."""
    home = root / "Lung Segmentation"
    for name, mask in (("CHNCXR_0001_0", "CHNCXR_0001_0_mask"), ("MCUCXR_0002_1", "MCUCXR_0002_1")):
        xray(home / "CXR_png" / f"{name}.png")
        picture(home / "masks" / f"{mask}.png", size=SIZE, grey=255)
        (home / "ClinicalReadings").mkdir(exist_ok=True)
        (home / "ClinicalReadings" / f"{name}.txt").write_text("male 45yrs\nnormal\n")
    xray(home / "CXR_png" / "CHNCXR_0003_1.png")
    xray(home / "test" / "CHNCXR_0004_1.png")


@pytest.mark.parametrize(
    ("source", "patients"), [("shenzhen", ["CHNCXR_0001", "CHNCXR_0003"]), ("montgomery", ["MCUCXR_0002"])]
)
def test_kaggles_masks_and_labels_hold_both_tuberculosis_sets(source, patients, download):
    kaggle_masks_and_labels(download)

    report, table = build(source, download)

    frame = read_manifests([table])
    assert frame["patient_id"].tolist() == patients
    assert report.masks == 1
    assert (frame["sex"][0], frame["age"][0]) == ("M", 45)


@pytest.mark.parametrize(("source", "name"), [("shenzhen", "CHNCXR_0001_1"), ("montgomery", "MCUCXR_0001_1")])
def test_kaggles_copies_have_a_table_of_readings(source, name, download):
    xray(download / "images" / "images" / f"{name}.png")
    table(
        download / f"{source}_metadata.csv", [{"study_id": f"{name}.png", "sex": "Male", "age": 45, "findings": "PTB"}]
    )

    _, manifest = build(source, download)

    assert read_manifests([manifest])[["sex", "age", "label"]].values.tolist() == [["M", 45, "tuberculosis"]]


def test_nih_notes_the_pneumonia_that_rsna_calls_normal(download):
    MINIATURES["nih_chestxray14"].make(download)
    readings = {"a": ("00000001_000.png", "Normal"), "b": ("00000001_001.png", "Normal")}
    readings["c"] = ("00000002_000.png", "Lung Opacity")
    table(
        download / "stage_2_detailed_class_info.csv", [{"patientId": k, "class": c} for k, (_, c) in readings.items()]
    )
    mappings = [{"subset_img_id": k, "img_id": name} for k, (name, _) in readings.items()]
    (download / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mappings))

    _, manifest = build("nih_chestxray14", download)

    notes = read_manifests([manifest]).set_index("image")["note"]
    assert {Path(image).name: note for image, note in notes.items() if note} == {
        "00000001_001.png": "called_normal_by_rsna"
    }


@pytest.mark.parametrize(
    ("labels", "home"),
    [("labels_covid_posi.tsv", "covid19_posi"), ("Labels_covid_123.tsv", "covid19_posi")],
)
def test_bimcv_iterations_2_and_3_name_their_tables_otherwise(labels, home, download, built):
    """rilshok/BIMCV-COVID-19-interface, `bimcvcovid19i/data.py`: tables of iterations 1 to 2, 1 to 3."""
    MINIATURES["bimcv_covid19"].make(download)
    head = (download / "bimcv_covid19_posi_head_iter1").rename(download / home)
    (head / "derivatives/labels/labels_covid19_posi.tsv").rename(head / "derivatives/labels" / labels)
    for subject in sorted((download / "bimcv_subjects_1").glob("sub-*")):
        subject.rename(head / subject.name)

    report, _ = build("bimcv_covid19", download)

    assert (report.labels, report.dropped) == (
        built("bimcv_covid19").report.labels,
        built("bimcv_covid19").report.dropped,
    )


def test_tb_portals_parts_may_each_have_a_folder_and_paths_of_windows(download, built):
    """20 archives `<release>_NN_of_20.zip`; readers split the paths at `/` and at a backslash."""
    MINIATURES["tb_portals"].make(download)
    images = download / "TB_Portals_Published_CXRs_August_2023"
    (images / "GlobalBucket" / "p2").rename(download / "part_02_of_20")
    (download / "part_02_of_20").rename(download / "x")
    (download / "part_02_of_20").mkdir()
    (download / "x").rename(download / "part_02_of_20" / "p2")
    (images / "p1").rename(download / "p1")
    path = download / "TB_Portals_CXRs_August_2023.csv"
    path.write_text(path.read_text().replace("p1/", "p1\\"))

    assert build("tb_portals", download)[0].labels == built("tb_portals").report.labels


@pytest.mark.parametrize("folder", ["images/images_001", "images/images_001/images", "images_001"])
def test_nih_archives_may_lie_in_one_folder(folder, download, built):
    MINIATURES["nih_chestxray14"].make(download)
    old = sorted(download.glob("images_*/images/*.png"))
    (download / folder).mkdir(parents=True, exist_ok=True)
    for image in old:
        image.rename(download / folder / image.name)

    assert build("nih_chestxray14", download)[0].labels == built("nih_chestxray14").report.labels


def test_nih_pictures_with_colours_and_an_opaque_layer_are_grey(download):
    """A few hundred of the set's PNG are RGBA, as public readers of it convert them."""
    MINIATURES["nih_chestxray14"].make(download)
    path = next(download.rglob("00000001_000.png"))
    grey = np.asarray(Image.open(path))
    Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)])).save(path)

    np.testing.assert_allclose(read_image(path), grey / 255, atol=1e-6)


@pytest.mark.parametrize("source", ["vindr_cxr", "mimic_cxr_jpg"])
def test_a_set_as_wget_leaves_physionets_is_found(source, download, built):
    """PhysioNet's own line is `wget -r -N -c -np https://physionet.org/files/<set>/<version>/`."""
    MINIATURES[source].make(download / "physionet.org" / "files" / source / "1.0.0")

    assert build(source, download)[0].labels == built(source).report.labels


def test_jsrt_readings_of_kaggles_copy(download):
    """Columns as farhanxaidi/Programming_for_Big_Data's copy of `jsrt_metadata.csv` has them."""
    for name in ("JPCLN151.png", "JPCNN001.png"):
        xray(download / "images" / "images" / name)
    rows = [("JPCLN151.png", 1, 14, 37, "Female", 1520, 1364, "malignant", "l.lower lobe", "metastasis")]
    rows.append(("JPCNN001.png", "", "", 30, "Male", "", "", "non-nodule", "", ""))
    names = ("study_id", "subtlety", "size", "age", "gender", "x", "y", "state", "position", "diagnosis")
    table(download / "jsrt_metadata.csv", [dict(zip(names, row, strict=True)) for row in rows])

    _, manifest = build("jsrt", download)

    frame = read_manifests([manifest])
    assert frame[["label", "sex", "age"]].values.tolist() == [["nodule", "F", 37], ["no_nodule", "M", 30]]


def test_actualmed_and_hannover_with_all_columns_of_the_repositories(download):
    """Headers of agchung/Actualmed-COVID-chestxray-dataset's metadata.csv, ml-workgroup's data.csv."""
    described = "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,imagename,"
    described += "artifacts/distortion,notes\n"
    described += 'ANON56,,,,No finding,,,,PA,X-ray,CR.1.2.png,,"Negative (is excluded), date taken: 20200317"\n'
    described += 'ANON196,,,,COVID-19,,,,AP,X-ray,CR.1.3.png,,", date taken (YYYYMMDD): 20200318"\n'
    xray(download / "a" / "images" / "CR.1.2.png")
    xray(download / "a" / "images" / "CR.1.3.png")
    (download / "a" / "metadata.csv").write_text(described)
    clinical = "patient_id,image_id,sex,age,size,weight,admission_offset,icu_admission_offset,icu_release_offset,"
    clinical += "death_offset,modality,projection,crp_offset,crp_val,pco2_offset,pco2_val\n"
    clinical += "042f06a9,b343e657,m,,,,0,0.0,4.0,,CR,ap,0.0,5.0,0.0,-inf\n"
    clinical += "88b33741,2c35005f,f,,,,23,,,,DX,pa,,,,\n"
    for name in ("b343e657", "2c35005f"):
        xray(download / "h" / "png" / f"{name}.png")
    (download / "h" / "data.csv").write_text(clinical)

    reports = [build(source, download / folder)[0] for source, folder in (("actualmed", "a"), ("hannover", "h"))]

    assert [report.labels for report in reports] == [{"covid": 1, "normal": 1}, {"covid": 2}]


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("montgomery", "MontgomerySet/CXR_png/*_0.png"),
        ("shenzhen", "ChinaSet_AllFiles/CXR_png/*_1.png"),
        ("jsrt", "All247images/JPCNN001.png"),
    ],
)
def test_a_reading_without_an_image_is_an_image_that_is_missing(name, gone, download):
    """Half of an archive that was unpacked in part has no table of images, but readings of all of them."""
    MINIATURES[name].make(download)
    images = list(download.glob(gone))
    for image in images:
        image.unlink()

    report = build_manifest(find_source(name), download, download / "a.csv", partial=True)

    assert len(images) > 0
    assert report.dropped == {"image file is missing": len(images)}


def test_a_folder_of_the_radiography_database_without_images_is_told(download):
    MINIATURES["covid19_radiography"].make(download)
    for image in download.glob("*/COVID/images/*"):
        image.unlink()

    with pytest.raises(InputError, match=r"Missing: COVID/images/\*\.png"):
        build_manifest(find_source("covid19_radiography"), download, download / "a.csv")


@pytest.mark.parametrize("path", ["", "view1_frontal.jpg", "CheXpert-v1.0-small/train/view1_frontal.jpg"])
def test_a_table_of_chexpert_with_other_paths_is_told(path, download):
    MINIATURES["chexpert"].make(download)
    file = download / "CheXpert-v1.0-small/train.csv"
    first = pd.read_csv(file)["Path"][0]
    file.write_text(file.read_text().replace(first, path))

    with pytest.raises(InputError, match=r"train\.csv: column 'Path', row 1 is not as CheXpert-v1\.0/train"):
        build_manifest(find_source("chexpert"), download, download / "a.csv")


def test_images_of_tb_portals_may_lie_beside_a_table_below_the_folder(download):
    MINIATURES["tb_portals"].make(download / "Download")

    report = build_manifest(find_source("tb_portals"), download, download / "a.csv")

    assert report.labels == MINIATURES["tb_portals"].labels
