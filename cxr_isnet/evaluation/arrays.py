"""Arrays of the metrics, and the division that knows what is undefined."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Numerator over denominator; NaN where the denominator is not above zero."""
    answer: FloatArray = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=answer, where=denominator > 0)
    return answer
