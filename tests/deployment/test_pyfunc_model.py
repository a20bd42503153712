import runpy
from types import SimpleNamespace

import pandas as pd

from cxr_isnet.deployment import pyfunc_path
from cxr_isnet.inference import Classifier


def test_the_model_answers_as_the_classifier_of_its_checkpoint(classifier, phantom_manifest, tmp_path):
    classifier.save(tmp_path / "best.pt")
    images = sorted(map(str, (phantom_manifest.parent / "images").iterdir()))[:3]
    model = runpy.run_path(str(pyfunc_path()))["ChestXrayModel"]()
    context = SimpleNamespace(artifacts={"checkpoint": str(tmp_path / "best.pt")})

    model.load_context(context)

    expected = Classifier.load(tmp_path / "best.pt").predict(images)
    pd.testing.assert_frame_equal(model.predict(context, images), expected, check_exact=True)
