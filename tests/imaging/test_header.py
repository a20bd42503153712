import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from cxr_isnet.imaging.header import quiet_pydicom


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


def test_threads_that_overlap_are_all_silent_and_leave_the_log_as_it_was(heard):
    first, second = quiet_pydicom(), quiet_pydicom()
    with ThreadPoolExecutor(2) as threads:
        threads.submit(first.__enter__).result()
        threads.submit(second.__enter__).result()
        threads.submit(first.__exit__, None, None, None).result()
        threads.submit(complain).result()
        assert not heard
        threads.submit(second.__exit__, None, None, None).result()

    logging.getLogger("pydicom").error("Doe^Jane")

    assert len(heard) == 2
