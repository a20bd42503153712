import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cxr_isnet.engine import checkpoint
from cxr_isnet.engine.checkpoint import load_state, load_weights, save_state
from cxr_isnet.errors import InputError

STATE = {"epoch": 3, "name": "isnet", "weights": {"a": torch.tensor([1.0, 2.0])}}


OTHER_FILES = [b"", b"a letter", b"\x89PNG\r\n\x1a\n\x00\x00", b"PK\x03\x04 half", bytes(range(256))]


class Trap:
    """Makes a file if it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_what_was_saved_comes_back(tmp_path):
    save_state(tmp_path / "a.pt", STATE)

    found = load_state(tmp_path / "a.pt")

    assert (found["epoch"], found["name"]) == (3, "isnet")
    assert torch.equal(found["weights"]["a"], STATE["weights"]["a"])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    save_state(tmp_path / "a.pt", STATE)

    def full_disk(state, path):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_state(tmp_path / "a.pt", {"epoch": 4})

    assert load_state(tmp_path / "a.pt")["epoch"] == 3


def test_loading_runs_no_code_of_the_file(tmp_path):
    torch.save({"format": checkpoint.FORMAT, "weights": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")

    with pytest.raises(InputError, match=r"trap\.pt: .*more than numbers, texts and tensors"):
        load_state(tmp_path / "trap.pt")

    assert not (tmp_path / "sprung").exists()


def test_loading_runs_no_code_of_a_bare_pickle(tmp_path):
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))

    with pytest.raises(InputError, match=r"trap\.pt"):
        load_state(tmp_path / "trap.pt")

    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_reported_with_what_to_give(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: there is no such checkpoint. Give best\.pt"):
        load_state(tmp_path / "none.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_reported(share, tmp_path):
    save_state(tmp_path / "a.pt", STATE)
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: int(share * len(content))])

    with pytest.raises(InputError, match=r"a\.pt: damaged, or no checkpoint"):
        load_state(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("spoil", [lambda part: bytes(len(part)), lambda part: part[:-1] + bytes([part[-1] ^ 1])])
def test_weights_that_a_disk_has_changed_are_not_taken_for_weights(suffix, spoil, tmp_path):
    """A block of zeros, or one bit: torch.load and safetensors look at no checksum, and the network would predict."""
    path = tmp_path / f"a{suffix}"
    weights = torch.rand(256)
    save_state(path, {"weights": {"a": weights}})
    content, part = path.read_bytes(), weights.numpy().tobytes()
    assert content.count(part) == 1

    path.write_bytes(content.replace(part, spoil(part)))

    with pytest.raises(InputError, match=rf"a{suffix}: damaged: its .* is not what was written\. Copy it anew"):
        load_state(path)


def test_safetensors_of_before_there_was_a_digest_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"weights/a": torch.ones(2)}, path, metadata={"state": '{"format": 3}'})

    assert torch.equal(load_state(path)["weights"]["a"], torch.ones(2))


def test_safetensors_whose_parts_contradict_each_other_are_reported(tmp_path):
    save_file({"weights/a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"state": '{"weights": 3}'})

    with pytest.raises(InputError, match=r"a\.safetensors: damaged, or no checkpoint \(TypeError\)"):
        load_state(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", OTHER_FILES)
def test_a_file_of_another_kind_is_reported(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)

    with pytest.raises(InputError, match=r"a\.pt: (damaged, or no|not a) checkpoint"):
        load_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "content", [torch.zeros(2), {"weights": {}}, {"format": "3"}, {"format": 0}, {"format": torch.ones(3)}]
)
def test_a_checkpoint_of_another_program_is_reported(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(InputError, match=r"a\.pt: not a checkpoint of this program"):
        load_state(tmp_path / "a.pt")


def test_a_checkpoint_of_a_newer_version_says_so(tmp_path):
    torch.save({"format": checkpoint.FORMAT + 1}, tmp_path / "a.pt")

    with pytest.raises(InputError, match=r"a\.pt: a checkpoint of a newer version \(format 4; .*Update cxr-isnet"):
        load_state(tmp_path / "a.pt")


def test_the_weights_of_another_network_are_reported_by_their_differences(tmp_path):
    own = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    foreign = {"0.weight": torch.zeros(4, 2), "0.bias": torch.zeros(3), "extra": torch.zeros(1)}

    with pytest.raises(InputError) as shown:
        load_weights(own, foreign, tmp_path / "a.pt")

    for part in (
        "a.pt",
        "2 missing, e.g. 1.bias",
        "1 not in this network, e.g. extra",
        "1 of another shape, e.g. 0.weight",
    ):
        assert part in str(shown.value)


def test_weights_that_are_refused_change_nothing(tmp_path):
    own = nn.Linear(2, 1)
    before = own.weight.clone()

    with pytest.raises(InputError):
        load_weights(own, {"weight": torch.zeros(1, 2)}, tmp_path / "a.pt")

    assert torch.equal(own.weight, before)
