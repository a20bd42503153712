"""Weights of torchvision and TorchXRayVision: networks with their names, written here, give the same features."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.inference import Classifier
from cxr_isnet.networks import NetworkConfig, build_network, last_layer, penultimate
from cxr_isnet.training import TrainConfig, train
from cxr_isnet.training.initialisation import init_from
from cxr_isnet.training.third_party_weights import load_third_party, read_weights
from tests import third_party

TINY = NetworkConfig("densenet_tiny")
RESNET = NetworkConfig("resnet18")
MEAN, SPREAD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class DenseLayer(nn.Sequential):
    def __init__(self, channels: int, growth: int) -> None:
        parts = {
            "norm1": nn.BatchNorm2d(channels),
            "relu1": nn.ReLU(),
            "conv1": nn.Conv2d(channels, 4 * growth, 1, bias=False),
        }
        parts |= {"norm2": nn.BatchNorm2d(4 * growth), "relu2": nn.ReLU()}
        parts |= {"conv2": nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)}
        super().__init__(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], 1)


class DenseNet(nn.Module):
    """With the names of torchvision's (and TorchXRayVision's)."""

    def __init__(
        self, channels: int, outputs: int, width: int = 16, growth: int = 12, blocks: tuple[int, ...] = (3, 4, 4)
    ) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {"conv0": nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)}
        parts |= {"norm0": nn.BatchNorm2d(width), "relu0": nn.ReLU(), "pool0": nn.MaxPool2d(3, 2, 1)}
        for number, layers in enumerate(blocks, start=1):
            block = {f"denselayer{i + 1}": DenseLayer(width + i * growth, growth) for i in range(layers)}
            parts[f"denseblock{number}"] = nn.Sequential(OrderedDict(block))
            width += layers * growth
            if number < len(blocks):
                transition = {"norm": nn.BatchNorm2d(width), "relu": nn.ReLU()}
                transition |= {"conv": nn.Conv2d(width, width // 2, 1, bias=False), "pool": nn.AvgPool2d(2)}
                parts[f"transition{number}"] = nn.Sequential(OrderedDict(transition))
                width //= 2
        self.features = nn.Sequential(OrderedDict({**parts, "norm5": nn.BatchNorm2d(width)}))
        self.classifier = nn.Linear(width, outputs)

    def pooled(self, x: Tensor) -> Tensor:
        return F.relu(self.features(x)).mean((2, 3))


class BasicBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        rest = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + rest)


class ResNet(nn.Module):
    """With the names of torchvision's."""

    def __init__(self, channels: int, outputs: int, blocks: tuple[int, ...] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        before = 64
        for stage, (after, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
            layers = [
                BasicBlock(before if i == 0 else after, after, 2 if i == 0 and stage > 1 else 1) for i in range(count)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            before = after
        self.fc = nn.Linear(512, outputs)

    def pooled(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean((2, 3))


def used(network: nn.Module, images: Callable[[], Tensor]) -> nn.Module:
    """The network with statistics and affine weights as a training leaves them: none is 0 or 1."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network.pooled(images())
    return network.eval()


def grey() -> Tensor:
    return torch.rand(2, 1, 32, 32)


def imagenet(images: Tensor) -> Tensor:
    return (images.expand(-1, 3, -1, -1) - MEAN.view(3, 1, 1)) / SPREAD.view(3, 1, 1)


def xrayvision(images: Tensor) -> Tensor:
    return (2 * images - 1) * 1024


def on_black(network: nn.Module, first: nn.Conv2d, prepare: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Features of images whose border is continued in black, which is what the padding means here."""
    first.padding = (0, 0)
    with torch.no_grad():
        return network.pooled(prepare(F.pad(images, (3, 3, 3, 3))))


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As in torchvision's files of 2017: `denselayer1.norm.1.weight`, no count of batches."""
    renamed = {}
    for name, value in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") if "denselayer" in name else name
        renamed[name] = value
    return {name: value for name, value in renamed.items() if not name.endswith("num_batches_tracked")}


CASES = {
    "torchvision densenet": (lambda: DenseNet(3, 1000), imagenet, TINY),
    "torchxrayvision densenet": (lambda: DenseNet(1, 18), xrayvision, TINY),
    "densenet of grey images": (lambda: DenseNet(1, 5), lambda images: images, TINY),
    "torchvision resnet": (lambda: ResNet(3, 1000), imagenet, RESNET),
    "torchxrayvision resnet": (lambda: ResNet(1, 18), xrayvision, RESNET),
}


@pytest.mark.parametrize("case", CASES)
def test_the_features_are_those_of_the_library(case: str, tmp_path: Path) -> None:
    build, prepare, config = CASES[case]
    reference = used(build(), lambda: prepare(grey()))
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    network = build_network(config, 2, 32).eval()
    head = {name: value.clone() for name, value in network.state_dict().items() if name.startswith(("class_l", "fc"))}

    init_from(network, config, 32, tmp_path / "weights.pth")

    images = grey()
    first = reference.features.conv0 if isinstance(reference, DenseNet) else reference.conv1
    torch.testing.assert_close(
        penultimate(network, images), on_black(reference, first, prepare, images), rtol=1e-3, atol=1e-4
    )
    assert all(torch.equal(network.state_dict()[name], value) for name, value in head.items())


def test_only_the_border_differs_where_the_padding_meant_another_grey() -> None:
    reference = used(DenseNet(3, 1000), lambda: imagenet(grey()))
    network = build_network(TINY, 2, 32).eval()
    load_third_party(network, reference.state_dict(), Path("weights.pth"))
    images = grey()

    with torch.no_grad():
        found = network.features.norm0(network.features.conv0(images))
        expected = reference.features.norm0(reference.features.conv0(imagenet(images)))

    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found[..., 0, :], expected[..., 0, :], atol=1e-2)


def test_a_channel_that_hardly_varies_is_folded_too() -> None:
    reference = used(DenseNet(1, 18), lambda: xrayvision(grey()))
    reference.features.norm0.running_var[:3] = torch.tensor([0.0, 1e-7, 1.0])
    network = build_network(TINY, 2, 32).eval()
    images = grey()

    load_third_party(network, reference.state_dict(), Path("weights.pth"))

    with torch.no_grad():
        found = network.features.norm0(network.features.conv0(images))
        expected = reference.features.norm0(reference.features.conv0(xrayvision(images)))
    difference = (found - expected)[..., 2:-2, 2:-2].abs().amax((0, 2, 3))
    assert (difference < 1e-4 * expected.abs().amax((0, 2, 3))).all()


def test_folded_weights_keep_their_size() -> None:
    """Weights 2048 times as large would hardly move at a usual learning rate."""
    reference = used(DenseNet(1, 18), lambda: xrayvision(grey()))
    network = build_network(TINY, 2, 32)

    load_third_party(network, reference.state_dict(), Path("weights.pth"))

    ratio = network.features.conv0.weight.detach().norm() / reference.features.conv0.weight.detach().norm()
    assert float(ratio) == pytest.approx(1, abs=0.01)


def save(kind: str, folder: Path) -> Path:
    """One set of weights in each of the forms in which people have them."""
    state = DenseNet(3, 1000).state_dict()
    path = folder / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(old_names(state), path, _use_new_zipfile_serialization=False)
    elif kind == "nested":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        torch.save({f"model.{k}": v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "legacy", "nested", "prefixed halves"])
def test_files_of_every_form_give_the_same_weights(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = save(kind, tmp_path)
    torch.manual_seed(0)
    state = DenseNet(3, 1000).state_dict()
    network = build_network(TINY, 2, 32)

    init_from(network, TINY, 32, path)

    weight = network.features.denseblock2.denselayer3.layers.conv2.weight
    torch.testing.assert_close(weight, state["features.denseblock2.denselayer3.conv2.weight"], rtol=1e-3, atol=1e-3)


def test_what_was_done_and_left_out_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in ResNet(1, 14).state_dict().items()}
    torch.save({**state, "op_threshs": torch.zeros(14)}, tmp_path / "weights.pt")

    with caplog.at_level(logging.INFO):
        other = NetworkConfig("resnet18_stride1")
        init_from(build_network(other, 2, 32), other, 32, tmp_path / "weights.pt")

    message = caplog.text
    assert "TorchXRayVision's input from -1024 to 1024" in message
    assert "exact but for the border" in message
    assert "stride of 2, here of 1" in message
    assert "Left out: model.fc.weight, model.fc.bias, op_threshs" in message


@pytest.mark.parametrize(
    ("state", "config", "message"),
    [
        (lambda: ResNet(3, 10).state_dict(), TINY, "network is a DenseNet, but the file holds 1 ResNet"),
        (lambda: DenseNet(3, 10).state_dict(), RESNET, "network is a ResNet, but the file holds 1 DenseNet"),
        (lambda: ResNet(3, 10, (3, 4, 6, 3)).state_dict(), RESNET, r"\d+ not in this network, e\.g\. layer1\.2"),
        (
            lambda: DenseNet(3, 10, blocks=(3, 4, 5)).state_dict(),
            TINY,
            r"not in this network.*of another shape, e\.g\.",
        ),
        (lambda: DenseNet(3, 10, growth=16).state_dict(), TINY, r"of another shape, e\.g\. features\.denseblock1"),
        (lambda: DenseNet(3, 10, blocks=(3, 4, 3)).state_dict(), TINY, r"missing, e\.g\. features\.denseblock3"),
        (
            lambda: {name: value * torch.nan for name, value in DenseNet(3, 10).state_dict().items()},
            TINY,
            "damaged: .* holds NaN or infinite values",
        ),
        (lambda: DenseNet(4, 10).state_dict(), TINY, "images have 4 channels; needed: 1 or 3"),
        (lambda: {"layers.0.weight": torch.zeros(2)}, TINY, r"holds none of torchvision, e\.g\. 'layers\.0\.weight'"),
        (lambda: {}, TINY, "holds no weights by name"),
        (lambda: {0: torch.zeros(3)}, TINY, "holds no weights by name"),
        (lambda: torch.zeros(3), TINY, "holds no weights by name"),
        (lambda: DenseNet(3, 10).state_dict(), NetworkConfig("vit_tiny"), "the network has 0"),
    ],
)
def test_weights_of_another_architecture_are_refused(
    state: Callable[[], object], config: NetworkConfig, message: str, tmp_path: Path
) -> None:
    torch.save(state(), tmp_path / "weights.pth")
    network = build_network(config, 2, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    with pytest.raises(InputError, match=rf"weights\.pth: .*{message}"):
        init_from(network, config, 32, tmp_path / "weights.pth")

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Exploding:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("code of a file was run",)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickled_object_is_refused_unread(new: bool, tmp_path: Path) -> None:
    torch.save({"weight": Exploding()}, tmp_path / "model.pt", _use_new_zipfile_serialization=new)

    with pytest.raises(InputError, match=r"(?s)model\.pt: .*pickled object.*torch\.save\(model\.state_dict\(\)"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize("kind", ["safetensors", "legacy", "nested"])
def test_a_file_that_ends_too_early_is_reported_wherever_it_ends(kind: str, tmp_path: Path) -> None:
    path = save(kind, tmp_path)
    whole = path.read_bytes()

    for share in (0.0, 0.00001, 0.0005, 0.01, 0.1, 0.3, 0.5, 0.9, 0.9999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"weights\..*: (damaged|holds no weights)"):
            read_weights(path)


def test_a_page_that_was_downloaded_in_its_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("<!DOCTYPE html><title>Not found</title>")

    with pytest.raises(InputError, match=r"damaged, or no file of torch\.save"):
        read_weights(tmp_path / "weights.pth")


def test_the_resnet_inside_of_another_network_is_found() -> None:
    network = build_network(NetworkConfig("ham_tiny"), 2, 32)
    given = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in network.resnet.state_dict().items()}

    load_third_party(network, {**given, "conv1.weight": torch.rand(8, 3, 7, 7)}, Path("weights.pth"))

    assert torch.equal(network.resnet.layer4[0].conv2.weight, given["layer4.0.conv2.weight"])


def test_a_training_starts_from_them(
    make_config: Callable[..., TrainConfig], unevaluated: None, tmp_path: Path
) -> None:
    reference = DenseNet(3, 1000)
    torch.save(reference.state_dict(), tmp_path / "densenet.pth")
    config = make_config(init_from=str(tmp_path / "densenet.pth"), network=TINY, epochs=1)

    train(replace(config, optimizer=replace(config.optimizer, learning_rate=1e-12)))

    state = Classifier.load(Path(config.output) / "best.pt").network.state_dict()
    expected = reference.features.denseblock3.denselayer1.conv2.weight
    torch.testing.assert_close(state["features.denseblock3.denselayer1.layers.conv2.weight"], expected.detach())


TIMM_MODELS = [
    "convnext_tiny",  # a bias, no padding
    "densenet121",  # a batch norm takes the shift
    "efficientnet_b0",
    "swin_tiny_patch4_window7_224",
    "vgg16",
    "vit_base_patch16_224",  # another mean and deviation than ImageNet's
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM_MODELS)
def test_weights_of_timm_see_a_grey_image_as_timm_does_a_normalised_one_of_three_channels(
    name: str, tmp_path: Path
) -> None:
    timm = third_party.timm()
    torch.manual_seed(0)
    size = 160  # not what vit and swin have: their embeddings of positions are resized
    theirs = timm.create_model(name).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    config = NetworkConfig(f"timm:{name}")
    ours = build_network(config, 2, size).eval()
    head = last_layer(ours)[1].weight.clone()

    init_from(ours, config, size, tmp_path / "weights.pth")

    assert torch.equal(last_layer(ours)[1].weight, head)
    first = theirs.pretrained_cfg["first_conv"]
    modules = [path for path, _ in theirs.named_modules()]
    biased = theirs.get_submodule(first).bias is not None
    place = first if biased else modules[modules.index(first) + 1]
    mean, deviation = (torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    image = torch.rand(1, 1, size, size)
    ends = slice(2, -2)  # what padding touches
    seen = _outputs(ours, place, image)[..., ends, ends]
    if theirs.pretrained_cfg["fixed_input_size"]:
        theirs.set_input_size((size, size))
    expected = _outputs(theirs, place, (image - mean) / deviation)[..., ends, ends]
    assert seen.numel() > 0
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def _outputs(network: nn.Module, place: str, image: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = network.get_submodule(place).register_forward_hook(lambda *called: seen.append(called[2]))
    with torch.no_grad():
        network(image)
    hook.remove()
    return seen[0]


@pytest.mark.slow
def test_weights_of_another_model_of_timm_are_refused(tmp_path: Path) -> None:
    timm = third_party.timm()
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "weights.pth")
    config = NetworkConfig("timm:convnext_tiny")

    with pytest.raises(
        InputError, match=r"weights.pth: weights of another model than 'timm:convnext_tiny': 'fc.weight'"
    ):
        init_from(build_network(config, 2, 64), config, 64, tmp_path / "weights.pth")
