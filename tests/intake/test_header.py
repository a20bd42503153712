import logging
import warnings

import pytest

from cxr_isnet.intake.header import quiet_pydicom


@pytest.fixture
def heard():
    """What reaches a handler of pydicom's own log and one of the whole process."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logs = logging.getLogger("pydicom"), logging.getLogger()
    for log in logs:
        log.addHandler(handler)
    yield records
    for log in logs:
        log.removeHandler(handler)


def complain():
    logging.getLogger("pydicom").error("Doe^Jane")
    logging.getLogger("pydicom.pixels.decoders.base").error("Doe^Jane")
    warnings.warn("Doe^Jane", stacklevel=1)


def test_nothing_that_pydicom_says_is_heard_until_the_block_ends(heard, capfd):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with quiet_pydicom():
            complain()
        assert not heard
        assert not warned
        assert "Doe" not in "".join(capfd.readouterr())

        complain()

    assert len(heard) == 4
    assert len(warned) == 1
