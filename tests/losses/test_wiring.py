"""Constants of the heatmap loss that no formula of the other tests pins: the bounds worked out by hand, the guard."""

import pytest
import torch

from cxr_isnet.losses import BoundEstimator, background_loss


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        pytest.param([9.0, 10.0, 11.0], (7.0, 13.0), id="m=10 s=1: m - 3 s and m + 3 s"),
        pytest.param([4.0, 10.0, 16.0], (2.0, 28.0), id="m=10 s=6: m / 5 and m + 3 s"),
        pytest.param([1.0] * 9 + [91.0], (2.0, 50.0), id="m=10 s=28: m / 5 and 25 times that"),
    ],
)
def test_bounds_are_the_published_ones_of_mean_and_deviation(
    totals: list[float], expected: tuple[float, float]
) -> None:
    """C1 = max(m / 5, m - 3 s) and C2 = min(25 C1, m + 3 s), s the sample standard deviation."""
    estimator = BoundEstimator()

    estimator.update(torch.tensor(totals)[:, None, None, None, None])

    bounds = estimator.bounds()
    assert (bounds.low, bounds.high) == pytest.approx(expected)


def test_a_map_that_lies_outside_alone_is_still_pulled_down(mask: torch.Tensor) -> None:
    """With nothing inside the loss does not depend on the map's scale; the gradient has to lower it nevertheless."""
    relevance = (torch.rand(3, 2, 2, 6, 5) * (1 - mask)[:, None]).requires_grad_()

    background_loss(relevance, mask, decay=0.9).sum().backward()

    downhill = (relevance.grad * relevance.detach()).sum((1, 2, 3, 4))
    assert downhill.tolist() == pytest.approx([1.0] * 3, rel=1e-6)
