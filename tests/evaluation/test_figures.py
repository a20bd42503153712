import numpy as np
import pandas as pd
import pytest

from cxr_isnet.evaluation.figures import confusion_figure, loss_curves_figure, roc_figure
from cxr_isnet.evaluation.page import figure_uri
from cxr_isnet.evaluation.site import evaluate_site

from .conftest import THREE, TWO


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_two_classes_give_one_panel_with_a_curve_per_site(make_predictions):
    frame = make_predictions(classes=TWO, sites=("north", "south"))

    figure = roc_figure(frame, TWO)

    (axes,) = figure.axes
    assert [text.split(":")[0] for text in legend(axes)] == ["north", "south"]


def test_dollar_signs_in_names_are_no_formula(make_predictions):
    frame = make_predictions(classes=TWO, sites=(r"$\frac{", "$5 or $x_1$"))

    uri = figure_uri(roc_figure(frame, TWO))

    assert uri.startswith("data:image/svg+xml")


def test_more_classes_give_a_panel_per_site_with_a_curve_per_class(make_predictions):
    figure = roc_figure(make_predictions(sites=("north", "south")), THREE)

    assert [axes.get_title() for axes in figure.axes] == ["ROC, north", "ROC, south"]
    assert [text.split(" vs")[0] for text in legend(figure.axes[0])] == list(THREE)


def test_the_auc_of_the_legend_is_that_of_the_site(make_predictions):
    frame = make_predictions(classes=TWO)

    figure = roc_figure(frame, TWO)

    assert legend(figure.axes[0]) == [
        f"north: AUC {evaluate_site(frame, TWO, resamples=2).metrics['auc'].estimate:.3f}"
    ]


def test_a_site_with_one_class_is_named_as_undefined(make_predictions):
    figure = roc_figure(make_predictions(classes=TWO).assign(label="normal"), TWO)

    assert legend(figure.axes[0]) == ["north: undefined, one class only"]


def test_the_confusion_figure_shows_every_count_and_share(make_predictions):
    frame = make_predictions(classes=TWO)
    result = evaluate_site(frame, TWO, resamples=2)

    shown = [text.get_text() for text in confusion_figure(result, TWO).axes[0].texts]

    counts = np.array(result.confusion)
    assert [int(text.split("\n")[0]) for text in shown] == counts.ravel().tolist()
    assert shown[0].endswith(f"{counts[0, 0] / counts[0].sum():.0%}")


def test_a_class_that_no_image_has_shows_no_share(make_predictions):
    frame = make_predictions(classes=TWO).assign(label="normal")

    shown = [text.get_text() for text in confusion_figure(evaluate_site(frame, TWO, resamples=2), TWO).axes[0].texts]

    assert shown[2:] == ["0\nnone", "0\nnone"]


def test_loss_curves_have_a_panel_per_term_and_a_line_per_split_that_has_it():
    history = pd.DataFrame(
        {
            "epoch": [1, 1, 2, 2],
            "split": ["train", "validation"] * 2,
            "loss": [1.0, 2.0, 0.5, 1.5],
            "background": [0.3, np.nan, 0.2, np.nan],
        }
    )

    figure = loss_curves_figure(history)

    assert {axes.get_title(): legend(axes) for axes in figure.axes} == {
        "loss": ["train", "validation"],
        "background": ["train"],
    }


@pytest.mark.parametrize("epochs", [0, 1])
def test_loss_curves_of_a_training_that_has_hardly_begun_can_be_drawn(epochs, tmp_path):
    history = pd.DataFrame({"epoch": [1], "split": ["train"], "loss": [1.0]}).iloc[:epochs]

    loss_curves_figure(history).savefig(tmp_path / "loss.png")

    assert (tmp_path / "loss.png").stat().st_size > 0
