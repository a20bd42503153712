"""The command line: what it prints, what it returns, how it refuses."""

import errno
import inspect
import json
import logging
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields, is_dataclass, make_dataclass
from enum import Enum
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from cxr_isnet import __version__
from cxr_isnet.cli import BAD_INPUT, COMMANDS, DIVERGED, Group, main
from cxr_isnet.commands import train as train_command
from cxr_isnet.commands.evaluate import named_tables
from cxr_isnet.commands.manifest import BuildConfig
from cxr_isnet.config import parse_settings
from cxr_isnet.engine.devices import Device
from cxr_isnet.errors import DivergedError, InputError, Terminated
from cxr_isnet.imaging.acceptance import AcceptanceConfig
from cxr_isnet.losses import ForegroundForm
from cxr_isnet.networks import BACKBONES
from cxr_isnet.objectives import METHODS

EVERY_COMMAND = [
    ((name, *rest), command)
    for name, entry in COMMANDS.items()
    for rest, command in (
        [((inner,), c) for inner, c in entry.commands.items()] if isinstance(entry, Group) else [((), entry)]
    )
]
TRAIN = ("train", "--data.training=[a.csv]", "--data.classes=[normal, ill]", "--output=out")


@pytest.fixture
def run(capsys):
    """Runs the command line; exit status, what it printed and what it shown on stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(list(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return call


def test_the_version_is_reported(run):
    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(("words", "command"), EVERY_COMMAND, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_every_command_explains_its_settings(words, command, run):
    status, shown, _ = run(*words, "--help")

    assert status == 0
    assert "--config" in shown
    missing = {field.name for field in fields(command.settings()) if field.name not in shown}
    assert missing == set()


@pytest.mark.parametrize("words", [(), ("manifest",), ("segment",)], ids=" ".join)
def test_help_lists_the_commands_with_what_they_are_for(words, run):
    status, shown, _ = run(*words, "--help")

    entries = COMMANDS if not words else COMMANDS[words[0]].commands
    assert status == 0
    assert all(name in shown and entry.about.split()[0] in shown for name, entry in entries.items())


def closed_sets(kind: object, seen: set[type]) -> set[type[Enum]]:
    """Every enum among the types of a dataclass of settings, and of those inside it."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {kind}
    if is_dataclass(kind):
        if kind in seen:
            return set()
        seen.add(kind)
        return {enum for hint in get_type_hints(kind).values() for enum in closed_sets(hint, seen)}
    return {enum for inner in get_args(kind) for enum in closed_sets(inner, seen)}


SPELT = sorted({e for _, c in EVERY_COMMAND for e in closed_sets(c.settings(), set())}, key=lambda e: e.__name__)


@pytest.mark.parametrize("kind", SPELT, ids=lambda kind: kind.__name__)
def test_a_setting_of_a_closed_set_is_given_as_it_is_saved_wherever_its_module_is_used(kind):
    """By its value, alone and in a list, once the module that defines it is imported: checkpoints hold it so."""
    source = Path(inspect.getfile(kind)).read_text(encoding="utf-8")
    beside = re.search(rf"^spell_by_value\(.*\b{kind.__name__}\b", source, re.MULTILINE)
    assert beside or kind in (ForegroundForm,)  # the losses import torch only; the objectives that use it spell it
    settings = make_dataclass("Settings", [("one", kind), ("several", tuple[kind, ...])])
    for member in kind:
        found = parse_settings({"one": member.value, "several": [member.value]}, settings, "settings")
        assert (found.one, found.several) == (member, (member,))


LISTINGS = [["methods"], ["methods", "isnet"], ["networks"], ["networks", "densenet121"]]
TELLING = """
import contextlib, io, json, sys
from cxr_isnet.cli import main
from cxr_isnet.cli.stand_ins import HEAVY

def told(words):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main(words)
    return shown.getvalue()

asked = json.loads(sys.argv[1])
first = [told(words) for words in asked]
loaded = [name for name in sys.modules if name.partition(".")[0] in HEAVY]
again = first
if sys.argv[2:]:
    import torch, monai
    again = [told(words) for words in asked]
json.dump([first, loaded, again], sys.stdout)
"""


def told_by_a_new_process(asked: list[list[str]], *compare: str) -> tuple[list[str], list[str], list[str]]:
    """What the command line prints for each of `asked`, the heavy modules that this loaded, and what it prints when
    they are loaded."""
    words = [sys.executable, "-W", "ignore", "-c", TELLING]
    done = subprocess.run([*words, json.dumps(asked), *compare], check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout))


def test_help_and_listings_load_no_library_that_only_the_work_needs():
    first, loaded, _ = told_by_a_new_process([["--help"], ["train", "--help"], ["methods"]])

    assert loaded == []
    assert ["--options.isnet.heatmap_weight" in text for text in first] == [False, True, False]


@pytest.mark.slow
def test_every_help_and_listing_is_the_same_with_and_without_the_libraries():
    asked = [[*words, "--help"] for words, _ in EVERY_COMMAND] + LISTINGS
    first, loaded, again = told_by_a_new_process(asked, "compare")

    assert loaded == []
    assert first == again
    assert all(first)


def test_settings_given_by_place_and_by_letter(run, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("cxr_isnet.commands.manifest.build", built.append)
    run("manifest", "build", "shenzhen", str(tmp_path), "-o", "table.csv", "--checksums=true")

    assert built == [BuildConfig("shenzhen", str(tmp_path), "table.csv", checksums=True)]


def test_a_command_may_say_its_exit_status(run, monkeypatch):
    checked = []

    def found_something(config):
        checked.append(config.tables)
        return "one finding", 1

    monkeypatch.setattr("cxr_isnet.commands.manifest.check", found_something)

    assert run("manifest", "check", "a.csv", "b.csv") == (1, "one finding\n", "")
    assert checked == [["a.csv", "b.csv"]]


def test_a_printed_config_is_a_config(run, monkeypatch, tmp_path):
    configs = []
    monkeypatch.setattr(train_command, "run", configs.append)
    _, printed, _ = run(*TRAIN, "--data.mark={size: 0.2}", "--optimizer.algorithm=sgd", "--print_config")
    (tmp_path / "config.yaml").write_text(printed)

    run(*TRAIN, "--data.mark={size: 0.2}", "--optimizer.algorithm=sgd")
    run("train", f"--config={tmp_path / 'config.yaml'}")

    assert len(configs) == 2
    assert configs[0] == configs[1]


@pytest.mark.parametrize("apart", [False, True], ids=["with =", "as two words"])
def test_an_option_on_the_command_line_leaves_a_methods_other_options_as_they_are(apart, run, tmp_path):
    recipe = {
        "options": {
            "isnet": {"heatmap_weight": 0.6, "deep_supervision": True, "loss": {"decay": 0.97, "activation": 0.3}},
            "isnet_dual": {"epsilon": 0.1},
        }
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    given = {"isnet.heatmap_weight": "0.4", "isnet.loss.decay": "9e-1", "isnet_selective.epsilon": "1e-3"}
    words = [w for k, v in given.items() for w in ([f"--options.{k}", v] if apart else [f"--options.{k}={v}"])]

    status, shown, problem = run(*TRAIN, f"--config={tmp_path / 'recipe.yaml'}", *words, "--print_config")

    assert (status, problem) == (0, "")
    options = yaml.safe_load(shown)["options"]
    isnet = options["isnet"]
    assert (isnet["heatmap_weight"], isnet["deep_supervision"]) == (0.4, True)
    assert (isnet["loss"]["decay"], isnet["loss"]["activation"]) == (0.9, 0.3)
    assert (options["isnet_dual"]["epsilon"], options["isnet_selective"]["epsilon"]) == (0.1, 0.001)


def test_an_option_of_a_nested_recipe_is_set_alone(run):
    status, shown, _ = run(
        "demo", "--config=pipelines/demo.yaml", "--train.options.isnet.epsilon=0.5", "--print_config"
    )

    assert status == 0
    isnet = yaml.safe_load(shown)["train"]["options"]["isnet"]
    assert isnet["epsilon"] == 0.5
    assert isnet["deep_supervision"] is True


@pytest.mark.parametrize("spelling", ["cuda", "CUDA", "Cuda"])
def test_choices_are_spelt_by_their_values_in_capitals_or_not(spelling, run, monkeypatch):
    configs = []
    monkeypatch.setattr(train_command, "run", configs.append)

    run(*TRAIN, f"--device={spelling}")

    assert configs[0].device is Device.CUDA


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), ["subcommand", "demo", "intake"]),
        (("manifest",), ["manifest.subcommand", "build", "check"]),
        (("manifest", "check"), ["manifest.check.tables"]),
        (("trian",), ["'trian'", "train"]),
        (("train",), ["data.training", "data.classes", "output"]),
        ((*TRAIN, "--nonsense=1"), ["--nonsense"]),
        ((*TRAIN, "--options.isnet.epsilon=1", "--options.isnet.epsilon.more=2"), ["options.isnet.epsilon", "float"]),
        (("explain", "--options.isnet.epsilon=1", "--model=a", "--images=[b]", "-o=c"), ["--options.isnet.epsilon"]),
        ((*TRAIN, "--epochs=many"), ["epochs", "int", "many"]),
        ((*TRAIN, "--device=gpu"), ["device", "'gpu'", "auto, cpu, cuda"]),
        ((*TRAIN, "--data.mark={corner: up}"), ["corner", "'up'", "top_left"]),
        ((*TRAIN, "--data.mark={size: 3}"), ["mark size is 3.0", "0.5"]),
        ((*TRAIN, "--data.image.size=8"), ["image size is 8", "32"]),
        ((*TRAIN, "--optimizer.learning_rate=-1"), ["optimizer.learning_rate is -1.0", "above 0"]),
        ((*TRAIN, "--config=nowhere.yaml"), ["nowhere.yaml"]),
        (TRAIN, ["a.csv", "no such table"]),
    ],
)
def test_what_cannot_be_understood_is_reported_in_one_message(arguments, named, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    status, printed, shown = run(*arguments)

    assert (status, printed) == (BAD_INPUT, "")
    assert shown.startswith("cxr-isnet: ")
    assert shown.count("cxr-isnet: ") == 1
    assert "Traceback" not in shown
    assert "usage:" not in shown
    assert all(word in shown for word in named), shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "named"),
    [("epoch: 3\n", ["'epoch'", "--help"]), ("output: [a\n", ["config", "line"]), ("data: {clases: []}\n", ["clases"])],
)
def test_a_config_file_that_cannot_be_understood_is_reported(content, named, run, tmp_path):
    (tmp_path / "config.yaml").write_text(content)

    status, _, shown = run("train", f"--config={tmp_path / 'config.yaml'}")

    assert status == BAD_INPUT
    assert shown.startswith("cxr-isnet: ")
    assert all(word in shown for word in named), shown


def test_a_training_that_diverged_has_an_exit_status_of_its_own(run, monkeypatch):
    def diverge(config):
        raise DivergedError("term 'loss' is nan in epoch 3")

    monkeypatch.setattr(train_command, "run", diverge)

    assert run(*TRAIN) == (DIVERGED, "", "cxr-isnet: term 'loss' is nan in epoch 3\n")


HOSTILE = "\x1b[2J\x9b31m\u202eb\udcff é\r\n\t"


def test_nothing_that_files_and_tables_contain_drives_the_terminal(run, monkeypatch):
    def refuse(config):
        logging.getLogger("cxr_isnet").warning(HOSTILE)
        raise InputError(HOSTILE)

    spelt = "\\x1b[2J\\x9b31m\\u202eb\\udcff é\\r\n\t"
    monkeypatch.setattr("cxr_isnet.commands.recipes.run", refuse)
    assert run("recipes") == (2, "", f"{spelt}\ncxr-isnet: {spelt}\n")
    monkeypatch.setattr("cxr_isnet.commands.recipes.run", lambda config: HOSTILE)
    assert run("recipes") == (0, f"{spelt}\n", "")


def test_a_bug_is_a_crash(run, monkeypatch):
    def stumble(config):
        raise ZeroDivisionError

    monkeypatch.setattr(train_command, "run", stumble)

    with pytest.raises(ZeroDivisionError):
        run(*TRAIN)


def test_as_a_process_it_refuses_with_a_status_and_without_a_traceback(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "cxr_isnet",
        "evaluate-model",
        "--model=best.pt",
        "--manifest=[a.csv]",
        "--output=out",
    ]

    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)

    assert done.returncode == BAD_INPUT
    assert done.stdout == b""
    assert done.stderr.decode() == (
        "cxr-isnet: best.pt: there is no such checkpoint. Give best.pt of a training's folder\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--data.training", "a.csv", "b.csv"],
        ["--data.training", "a.csv", "--data.training", "b.csv"],
        ["--data.training=a.csv", "--data.training=b.csv"],
        ["--data.training=[a.csv, b.csv]"],
        ["--data.training", "[a.csv, b.csv]"],
    ],
    ids=" ".join,
)
def test_lists_are_given_as_people_type_them(words, run, monkeypatch):
    configs = []
    monkeypatch.setattr(train_command, "run", configs.append)

    run("train", *words, "--data.classes", "normal", "ill", "--output=out", "--epochs", "3")

    assert (configs[0].data.training, configs[0].data.classes, configs[0].epochs) == (
        ["a.csv", "b.csv"],
        ["normal", "ill"],
        3,
    )


def test_tables_of_several_models_are_given_with_their_names(run, monkeypatch):
    configs = []
    monkeypatch.setattr("cxr_isnet.commands.evaluate.evaluate", configs.append)

    run("evaluate", "--predictions", "ours=a.csv", "theirs=b.csv", "--validation", "c.csv", "d.csv", "-o", "out")
    run("evaluate", "--predictions={ours: a.csv, theirs: b.csv}", "-o", "out")

    assert [named_tables(config.predictions) for config in configs] == [{"ours": "a.csv", "theirs": "b.csv"}] * 2
    assert configs[0].validation == ["c.csv", "d.csv"]


@pytest.mark.parametrize(
    ("old", "module", "function", "expected"),
    [
        (["evaluate", "--model=b.pt", "--manifest=[a.csv]"], "evaluate_model", "evaluate_model", {"model": "b.pt"}),
        (
            ["evaluate", "--leave-one-site-out=e.yaml"],
            "leave_one_site_out",
            "leave_one_site_out",
            {"experiment": "e.yaml"},
        ),
        (["train", *TRAIN[1:-1], "--start_from=b.pt"], "train", "run", {"init_from": "b.pt"}),
        (["train", *TRAIN[1:-1], "--start-from", "b.pt"], "train", "run", {"init_from": "b.pt"}),
        (
            ["intake", "folder", "--gate.multiframe=true"],
            "intake",
            "intake",
            {"acceptance": AcceptanceConfig(multiframe=True)},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_spellings_of_the_last_release_work_with_a_warning(old, module, function, expected, run, monkeypatch):
    configs = []
    monkeypatch.setattr(f"cxr_isnet.commands.{module}.{function}", configs.append)

    status, _, warning = run(*old, "--output=out")

    assert status == 0
    assert "is now" in warning
    assert {name: getattr(configs[0], name) for name in expected} == expected


def test_a_config_file_of_the_last_release_works_with_a_warning(run, monkeypatch, tmp_path):
    configs = []
    monkeypatch.setattr(train_command, "run", configs.append)
    settings = {
        "start_from": "b.pt",
        "method": "densenet121",
        "options": {"isnet": {"cuts": [0.1, 1.0], "tuning_epochs": 3}},
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(settings))

    _, _, warning = run(*TRAIN, "--config", str(tmp_path / "old.yaml"))

    assert all(f"'{name}' is now" in warning for name in ("start_from", "cuts", "tuning_epochs"))
    assert (configs[0].init_from, configs[0].options.isnet.bounds) == ("b.pt", (0.1, 1.0))
    with pytest.warns(UserWarning, match="is now called 'cross_entropy'"):
        assert configs[0].resolved()["method"] == "cross_entropy"


def test_the_demonstration_needs_no_config_and_takes_settings_over_its_own(run, monkeypatch, tmp_path):
    configs = []
    monkeypatch.setattr("cxr_isnet.commands.demo.demo", configs.append)
    monkeypatch.chdir(tmp_path)

    run("demo", "--output", "elsewhere", "--train.epochs", "3")

    assert (configs[0].output, configs[0].train.epochs, configs[0].patients) == ("elsewhere", 3, 220)


@pytest.mark.parametrize(
    ("setting", "meant"),
    [("--data.image.sise=64", "data.image.size"), ("--options.isnet.heatmap_wieght=1", "options.isnet.heatmap_weight")],
)
def test_a_setting_that_is_misspelt_is_answered_with_the_one_that_was_meant(setting, meant, run):
    status, _, message = run(*TRAIN, setting)

    assert status == BAD_INPUT
    assert f"Did you mean '{meant}'?" in message


def test_a_value_that_is_misspelt_is_answered_with_the_values_that_there_are(run):
    status, _, message = run("explain", "--model=m", "--images=a.png", "--output=out", "--explainer=lrpp")

    assert status == BAD_INPUT
    assert message.startswith("cxr-isnet: explainer: 'lrpp' (did you mean 'lrp'?) is none of lrp, input_gradient")
    assert "Union" not in message


def test_a_setting_that_is_short_of_a_letter_is_answered_with_its_name(run):
    status, _, message = run("evaluate", "--prediction", "a.csv", "--output=out")

    assert status == BAD_INPUT
    assert "Did you mean 'predictions'?" in message


def test_what_the_package_offers_is_imported_when_it_is_used():
    code = """
import sys
import cxr_isnet
assert "torch" not in sys.modules
assert set(cxr_isnet.__all__) <= set(dir(cxr_isnet))
assert all(getattr(cxr_isnet, name) is not None for name in cxr_isnet.__all__)
try:
    cxr_isnet.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise SystemExit("an attribute that is not there")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; to go on, give the same command with --resume true"),
        (Terminated(), 143, "interrupted; to go on, give the same command with --resume true"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/last.pt"),
            2,
            "out/last.pt: No space left on device. Make room; to go on, give the same command with",
        ),
    ],
    ids=["Ctrl-C", "SIGTERM", "disk full"],
)
def test_what_ends_a_training_from_outside_is_one_line_that_says_how_to_go_on(error, status, said, run, monkeypatch):
    def end(config):
        raise error

    monkeypatch.setattr(train_command, "run", end)

    found, _, problem = run(*TRAIN)

    assert found == status
    assert said in problem
    assert problem.count("\n") == 1


def test_sigterm_ends_a_command_as_ctrl_c_does_and_is_as_before_afterwards(run, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(train_command, "run", lambda config: os.kill(os.getpid(), signal.SIGTERM))

    status, _, problem = run(*TRAIN)

    assert status == 143
    assert problem.startswith("cxr-isnet: interrupted")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian",), "'trian' is no command. Did you mean 'train'?"),
        (("segment", "predcit"), "'segment predcit' is no command. Did you mean 'predict'?"),
        (("xyz",), "'xyz' is no command; there are demo,"),
        ((*TRAIN, "--precision=bf61"), "did you mean 'bf16'?"),
        (("train", "--config=tb_mixd"), "Did you mean 'tb_mixed'?"),
        (
            ("audit", "--model=m", "--manifest=a.csv", "--output=o"),
            "It has no name here: cxr-isnet audit MODEL MANIFEST",
        ),
        (
            ("explain", "best.pt", "a.png", "-o=o"),
            "names here: cxr-isnet explain --model MODEL --images IMAGES --output",
        ),
        (("evaluate", "a.csv", "-o=o"), "names here: cxr-isnet evaluate --predictions PREDICTIONS --output OUTPUT"),
        (
            ("segment", "predict", "m", "a.csv"),
            "names here: cxr-isnet segment predict --model MODEL --manifest MANIFEST",
        ),
        ((*TRAIN, "--epochs=0", "--seed=-1"), "epochs is 0; it must be at least 1; seed is -1"),
    ],
    ids=" ".join,
)
def test_a_slip_of_the_keyboard_is_met_with_what_was_meant(words, said, run):
    status, _, problem = run(*words)

    assert status == 2
    assert said in problem


def test_a_reader_that_closes_early_gets_no_traceback():
    command = f"{sys.executable} -m cxr_isnet networks"
    done = subprocess.run(["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True)

    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_methods_and_networks_are_listed_with_what_they_mean(run):
    status, shown, _ = run("methods")
    assert status == 0
    assert all(f"{method.name} " in shown and method.about in shown for method in METHODS)

    _, isnet, _ = run("methods", "isnet")
    assert "options.isnet.heatmap_weight = 0.5\n    P in [0, 1]: loss =" in isnet
    assert "options.isnet.loss.decay = 0.97" in isnet
    assert "needs lung masks, relevance rules" in isnet
    _, networks, _ = run("networks")
    assert all(f"{backbone.name} " in networks for backbone in BACKBONES)
    assert run("methods", "isnett")[0] == 2


def test_a_printed_config_names_the_network_that_null_means(run):
    _, shown, _ = run(*TRAIN, "--method=vit_b16", "--print_config")

    assert "\nnetwork: null  # vit_b16\n" in shown
    assert yaml.safe_load(shown)["network"] is None


def test_of_the_processes_of_torchrun_one_tells(monkeypatch, run):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(train_command, "run", lambda config: logging.getLogger("cxr_isnet").info("epoch 1"))

    assert run(*TRAIN) == (0, "", "")
