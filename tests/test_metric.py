"""What a scanned distance is reported as, missing results included."""

import numpy as np
import pytest
from compare import assert_same

from gpuann import metric

SCANNED = np.array([[0.0, 4.0, np.inf]], np.float32)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("sqeuclidean", [0.0, 4.0, np.inf]),
        ("euclidean", [0.0, 2.0, np.inf]),
        ("cosine", [0.0, 2.0, np.inf]),
        ("inner_product", [0.0, -4.0, -np.inf]),
    ],
)
def test_reported(name, want):
    assert_same(metric.reported(name, SCANNED), np.array([want], np.float32))


def test_every_metric_is_scanned_as_one_of_two():
    scanned = {name: metric.scan_metric(name) for name in metric.METRICS}
    assert scanned.pop("inner_product") == "inner_product"
    assert set(scanned.values()) == {"sqeuclidean"}
