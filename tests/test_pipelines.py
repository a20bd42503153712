"""The recipes: each can be read, finds its images in the publishers' downloads, and trains."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cxr_isnet.cli import main
from cxr_isnet.manifests import read_manifest
from cxr_isnet.networks import TIMM, NetworkConfig
from cxr_isnet.objectives import METHODS, find_method
from cxr_isnet.phantoms import PhantomHospital
from cxr_isnet.phantoms.writer import draw_patient
from cxr_isnet.shipped import recipes
from cxr_isnet.training import plan_trials, read_experiment_config
from tests import third_party
from tests.manifests.sources.conftest import MINIATURES
from tests.manifests.sources.files import dicom, table, xray

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"
COMMANDS = {path: path.name.split("_")[0].removesuffix(".yaml") for path in PIPELINES.glob("*.yaml")}
"""Recipe to the first word of its name, which is that of its command where it is not `train`."""
RECIPES = sorted(path for path, word in COMMANDS.items() if word not in ("demo", "compare"))
COLUMN_MAPPINGS = {
    "tb_shenzhen": ("shenzhen", {"normal", "tuberculosis"}),
    "tb_montgomery": ("montgomery", {"normal", "tuberculosis"}),
    "jsrt": ("jsrt", {"nodule", "no_nodule"}),
    "tb_mixed_ill": ("shenzhen", {"tuberculosis"}),
    "tb_mixed_held_out_ill": ("shenzhen", {"tuberculosis"}),
    "tb_mixed_held_out_normal": ("shenzhen", {"normal"}),
    "tb_mixed_normal": ("rsna_pneumonia", {"normal"}),
    "covid_ieee8023": ("ieee8023", {"covid", "other_pneumonia", "normal"}),
    "covid_mixed_ill": ("ieee8023", {"covid"}),
    "covid_mixed_held_out_ill": ("ieee8023", {"covid"}),
    "covid_mixed_held_out_pneumonia": ("ieee8023", {"other_pneumonia"}),
    "covid_nih": ("nih_chestxray14", {"normal", "other_pneumonia"}),
    "covid_actualmed": ("actualmed", {"covid", "normal"}),
}
"""The shipped ones, with the set and the classes of each."""


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, far from any clone; nothing says where data lie."""
    monkeypatch.delenv("CXR_ISNET_DATA", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def shenzhen_download(folder: Path, patients: int = 12) -> Path:
    """Phantoms in the layout of the Shenzhen set, with lung masks inside; two of three images have one."""
    for number in range(patients):
        chest, pixels, _ = draw_patient(PhantomHospital("Alder"), number, ill=number % 2 == 1, seed=1, size=64)
        name = f"CHNCXR_{number:04d}_{number % 2}"
        save(folder / "CXR_png" / f"{name}.png", pixels / 4095)
        if number % 3:
            save(folder / "masks" / f"{name}_mask.png", np.asarray(chest.lungs, dtype=bool))
    return folder


def montgomery_download(folder: Path) -> Path:
    """Phantoms in the layout of the Montgomery set, which has a mask for each lung."""
    for number in range(8):
        hospital = PhantomHospital("Birch", gamma=1.3)
        chest, pixels, _ = draw_patient(hospital, number, ill=number % 2 == 1, seed=2, size=64)
        name = f"MCUCXR_{number:04d}_{number % 2}.png"
        save(folder / "CXR_png" / name, pixels / 4095)
        lungs, columns = np.asarray(chest.lungs, dtype=bool), np.arange(64)
        save(folder / "ManualMask" / "rightMask" / name, lungs & (columns < 32))
        save(folder / "ManualMask" / "leftMask" / name, lungs & (columns >= 32))
    return folder


def ieee8023_download(folder: Path) -> Path:
    """The miniature of the ieee8023 collection, with so many more patients with COVID-19 that each tenth has some."""
    MINIATURES["ieee8023"].make(folder)
    home = folder / "covid-chestxray-dataset"
    rows = pd.read_csv(home / "metadata.csv", dtype=str, keep_default_na=False)
    covid = rows[(rows["finding"] == "Pneumonia/Viral/COVID-19") & (rows["view"] == "PA")].iloc[[0]]
    more = pd.concat([covid.assign(patientid=str(100 + n), filename=f"more_{n}.png") for n in range(40)])
    for name in more["filename"]:
        save(home / "images" / name, np.linspace(0, 1, 64 * 64).reshape(64, 64))
    pd.concat([rows, more]).to_csv(home / "metadata.csv", index=False)
    return folder


def nih_download(folder: Path) -> Path:
    """The miniature of NIH's set, with twenty more patients."""
    MINIATURES["nih_chestxray14"].make(folder)
    with (folder / "Data_Entry_2017.csv").open("a") as entries:
        for number in range(20):
            name = f"0000{1000 + number}_000.png"
            finding = ("No Finding", "Pneumonia")[number % 2]
            entries.write(f"{name},{finding},0,{1000 + number},40,F,PA,2682,2749,0.143,0.143,\n")
            xray(folder / "images_002" / "images" / name)
    return folder


def rsna_download(folder: Path) -> Path:
    """Twelve normal images in the layout of the RSNA challenge; its table of NIH's names is not needed."""
    names = [f"0004{number:04x}" for number in range(12)]
    table(
        folder / "stage_2_detailed_class_info.csv",
        [{"patientId": name, "class": "Normal"} for name in names],
    )
    for name in names:
        dicom(folder / "stage_2_train_images" / f"{name}.dcm", jpeg=True, ViewPosition="AP", PatientAge="051Y")
    return folder


def actualmed_download(folder: Path) -> Path:
    MINIATURES["actualmed"].make(folder)
    return folder


def jsrt_download(folder: Path) -> Path:
    MINIATURES["jsrt"].make(folder)
    return folder


def save(path: Path, picture: np.ndarray) -> None:
    """A picture in [0, 1] as a file of 8-bit grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(path)


@pytest.mark.parametrize("recipe", sorted(PIPELINES.glob("*.yaml")), ids=lambda p: p.name)
def test_every_setting_of_a_recipe_is_known(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[recipe] if COMMANDS[recipe] in ("demo", "compare") else "train"

    with pytest.raises(SystemExit) as caught:
        main([command, f"--config={recipe}", "--print_config"])

    assert caught.value.code == 0
    assert ("methods:" if command == "compare" else "classes:") in capsys.readouterr().out


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(path, marks=[] if path.stem in ("phantoms", "tb_shenzhen_montgomery") else [pytest.mark.slow])
        for path in RECIPES
    ],
    ids=lambda p: p.name,
)
@pytest.mark.parametrize("method", [pytest.param("cross_entropy", marks=pytest.mark.slow), "isnet"])
def test_a_recipe_trains_an_epoch_on_phantoms(
    recipe: Path, method: str, phantom_manifest: Path, external_manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    phantoms = [f"--data.training=[{phantom_manifest}]", f"--data.external=[{external_manifest}]"]
    phantoms.append("--data.classes=[normal, tuberculosis]")
    small = ["--data.image.size=32", "--epochs=1", "--batch_size=4", "--resamples=10", "--tracking.enabled=false"]
    small += ["--network.name=densenet_tiny", "--init_from=null"]

    main(["train", f"--config={recipe}", f"--method={method}", f"--output={output}", *phantoms, *small])

    metrics = json.loads((output / "metrics.json").read_text())
    marked = read_experiment_config(recipe).data.mark is not None
    tests = {"biased", "clean", "swapped"} if marked else {"clean"}
    assert set(metrics["external"]) == tests
    main(["train", f"--config={output / 'config.yaml'}", f"--output={tmp_path / 'again'}"])
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["external"] == metrics["external"]


def test_the_way_of_the_readme_from_two_downloads_to_a_tested_model(tmp_path: Path, empty_folder: Path) -> None:
    download = shenzhen_download(tmp_path / "Downloads" / "ChinaSet_AllFiles")
    montgomery_download(empty_folder / "data" / "montgomery" / "MontgomerySet")
    small = ["--data.image.size=32", "--network.name=densenet_tiny", "--epochs=1", "--batch_size=4", "--resamples=10"]

    main(["manifest", "build", "shenzhen", str(download)])
    main(["manifest", "build", "montgomery"])
    main(["train", "--config", "tb_shenzhen_montgomery", "--init-from", "null", "--tracking.enabled=false", *small])

    results = json.loads((empty_folder / "runs" / "tb" / "metrics.json").read_text())
    (hospital,) = results["external"]["clean"].values()
    assert hospital["n_images"] == 8
    assert hospital["metrics"]["auc"]["estimate"] is not None
    assert sorted(path.name for path in empty_folder.iterdir()) == ["data", "runs"]


SEGMENTED = {"shenzhen": lambda at: shenzhen_download(at, 40), "jsrt": jsrt_download, "ieee8023": ieee8023_download}
"""Public sets that the segmenter of `segmentation/public` learns from."""

TESTED = {"montgomery": montgomery_download, "actualmed": actualmed_download}
"""And those that are tested on."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "more"),
    [("tb_mixed", {"rsna_pneumonia": rsna_download}), ("covid_mixed", {"nih_chestxray14": nih_download})],
)
def test_the_way_from_downloads_over_a_segmenter_that_a_recipe_tells_ends_in_a_tested_model(
    recipe: str, more: dict[str, Callable[[Path], Path]], tmp_path: Path, empty_folder: Path
) -> None:
    for source, download in {**SEGMENTED, **TESTED, **more}.items():
        (tmp_path / source).mkdir()
        main(["manifest", "build", source, str(download(tmp_path / source))])
    learning = [
        "--image.size=32",
        "--network.channels=[8, 16]",
        "--epochs=15",
        "--batch_size=4",
        "--optimizer.average=0",
    ]
    small = {
        "segment train": [*learning, "--augment.devices=0", "--tracking.enabled=false"],
        "segment predict": [f"--limits.{name}={value}" for name, value in ANY_MASK.items()],
    }
    comment = (PIPELINES / f"{recipe}.yaml").read_text(encoding="utf-8").replace("\n#    ", "")
    told = re.findall(r"^#   cxr-isnet (segment \w+)(.*)$", comment, flags=re.MULTILINE)
    for command, arguments in told:
        main([*command.split(), *shlex.split(arguments), *small[command]])
    quick = {"data": {"image": {"size": 32}}, "network": {"name": "densenet_tiny"}, "epochs": 1, "batch_size": 4}
    methods = ["isnet", "two_stage", "lungs_only"]
    few = ["--seeds=[0]", "--resamples=10", "--variants={}", "--reference=isnet", "--tracking.enabled=false"]
    main(["compare", "--config", f"compare_{recipe}", f"--methods={methods}", f"--settings={quick}", *few])

    assert [command for command, _ in told] == list(small)
    config = read_experiment_config(PIPELINES / f"{recipe}.yaml")
    completed = read_manifest(config.data.training[0])
    assert set(completed.loc[completed["mask"] != "", "label"]) == set(config.data.classes)
    for method in methods:
        training = Path("runs") / f"compare_{recipe}" / "trainings" / method / "seed_0"
        external = json.loads((training / "metrics.json").read_text())["external"]["clean"]
        assert len([site for site in external if site != "pooled"]) == 2
        assert sum("held out" in site for site in external) == 1


ANY_MASK = {"smallest_area": 0, "largest_area": 1, "symmetry": 0, "border": 1, "fragments": 1, "agreement": 0}
"""Limits that flag no mask, as of a segmenter that has hardly learnt."""


def test_a_set_built_again_is_read_from_its_download_not_from_the_masks_made_of_it(empty_folder: Path) -> None:
    montgomery_download(empty_folder / "data" / "montgomery" / "nlm")
    manifest = empty_folder / "data" / "montgomery" / "manifest.csv"

    main(["manifest", "build", "montgomery"])
    first = manifest.read_text()
    main(["manifest", "build", "montgomery"])

    assert manifest.read_text() == first
    assert all("nlm/CXR_png" in image for image in read_manifest(manifest)["image"])


@pytest.mark.parametrize("mapping", sorted(path.stem for path in (PIPELINES.parent / "data_manifests").glob("*.yaml")))
@pytest.mark.parametrize("elsewhere", [False, True], ids=["in data", "in CXR_ISNET_DATA"])
def test_a_column_mapping_reads_what_manifest_build_writes(
    mapping: str, elsewhere: bool, tmp_path: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, classes = COLUMN_MAPPINGS[mapping]
    if elsewhere:
        monkeypatch.setenv("CXR_ISNET_DATA", str(tmp_path / "sets"))
    download = tmp_path / "download"
    download.mkdir()
    if mapping.startswith("tb_mixed") and source == "shenzhen":
        shenzhen_download(download, 40)  # so many that each tenth of the patients has some
    elif mapping.startswith("covid_mixed"):
        ieee8023_download(download)
    else:
        MINIATURES[source].make(download)

    main(["manifest", "build", source, str(download)])
    frame = read_manifest(f"data_manifests/{mapping}.yaml", classes=sorted(classes))

    assert set(frame["label"]) == classes
    assert frame["site"].nunique() == 1
    assert (tmp_path / "sets" if elsewhere else empty_folder / "data").joinpath(source, "manifest.csv").is_file()


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_names_shipped_column_mappings_and_says_in_a_line_what_it_is(name: str) -> None:
    text = recipes()[name].read_text()

    assert set(re.findall(r"data_manifests/(\w+)\.yaml", text)) <= set(COLUMN_MAPPINGS)
    assert re.match(r"# (.+\n# )*.+[.:]\n", text)


@pytest.mark.parametrize("recipe", sorted(p for p, w in COMMANDS.items() if w == "compare"), ids=lambda path: path.stem)
def test_a_comparison_plans_its_methods_on_the_recipe_that_it_names(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    experiment = read_experiment_config(content["experiment"])

    trials = plan_trials(experiment, Path("out"), content["methods"], content.get("variants", {}), content["seeds"])

    rows = len(content["methods"]) + len(content.get("variants", {}))
    assert len(trials) == rows * len(content["seeds"])
    assert content.get("reference", "isnet") in {*content["methods"], *content.get("variants", {})}
    for trial in trials:
        method = find_method(trial.config.method)
        network = trial.config.network or NetworkConfig(method.network)
        if not network.name.startswith(TIMM):
            method.check_network(network, 224)


@pytest.mark.slow
def test_the_networks_of_timm_that_a_comparison_names_can_be_trained_by_its_method() -> None:
    third_party.timm()
    variants = yaml.safe_load((PIPELINES / "compare_networks.yaml").read_text())["variants"].values()
    named = [(v["method"], v["network"]["name"]) for v in variants if v["network"]["name"].startswith(TIMM)]

    assert named
    for method, network in named:
        find_method(method).check_network(NetworkConfig(network), 224)


def test_the_demonstration_of_the_comparison_has_every_method() -> None:
    content = yaml.safe_load((PIPELINES / "compare_demo.yaml").read_text())

    named = {*content["methods"], *(settings["method"] for settings in content["variants"].values())}
    assert named == {method.name for method in METHODS}


def test_a_table_that_is_missing_says_which_command_makes_it(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--config", "tb_shenzhen_montgomery"])

    message = capsys.readouterr().err
    assert "data/shenzhen/manifest.csv: there is no such table" in message
    assert "Make it with `cxr-isnet manifest build shenzhen <folder of the download>`" in message
    assert "had from https://lhncbc.nlm.nih.gov/publication/pub9931" in message
    assert list(empty_folder.iterdir()) == []


def test_what_a_recipe_starts_from_can_be_left_out_where_its_sets_are_missing(
    tmp_path: Path, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["manifest", "build", "shenzhen", str(shenzhen_download(tmp_path / "s"))])
    main(["manifest", "build", "montgomery", str(montgomery_download(tmp_path / "m"))])

    with pytest.raises(SystemExit):
        main(["train", "--config", "tb_shenzhen_montgomery", "--tracking.enabled=false"])

    message = capsys.readouterr().err
    assert "init_from is 'pipelines/pretraining.yaml', which is trained first: data/nih_chestxray14" in message
    assert "leave it out with --init-from null" in message


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_what_a_recipe_starts_from_prepares_images_alike_and_no_larger(recipe: Path) -> None:
    config = read_experiment_config(recipe)
    if config.init_from is not None:
        before = read_experiment_config(PIPELINES.parent / config.init_from)
        assert before.data.image == replace(config.data.image, size=before.data.image.size)
        assert before.data.image.size <= config.data.image.size
        assert not set(before.data.training) & {*config.data.training, *config.data.external}


@pytest.mark.realdata
@pytest.mark.parametrize("method", ["cross_entropy", "isnet"])
def test_the_planted_mark_recipe_trains_on_real_x_rays(method: str, published_sets: Path, tmp_path: Path) -> None:
    small = ["--data.image.size=96", "--network.name=densenet_tiny", "--epochs=1", "--resamples=10"]
    small += ["--tracking.enabled=false", "--init_from=null"]

    main(["train", "--config=planted_mark", f"--method={method}", f"--output={tmp_path / 'run'}", *small])

    external = json.loads((tmp_path / "run" / "metrics.json").read_text())["external"]
    assert set(external) == {"biased", "clean", "swapped"}
    assert all(next(iter(sites.values()))["n_images"] == 138 for sites in external.values())
