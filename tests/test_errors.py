"""SIGTERM in the middle of what must not be left half-done."""

import os
import signal

import pytest

from cxr_isnet.errors import Terminated, sigterm_deferred, sigterm_interrupts


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_a_deferring_block_when_it_has_ended_and_any_other_at_once():
    done = []

    def transaction():
        with sigterm_interrupts():
            with sigterm_deferred():
                stop()
                done.append("the transaction")
            done.append("what follows")

    def nothing_to_keep():
        with sigterm_interrupts():
            stop()
            done.append("what follows")

    with pytest.raises(Terminated):
        transaction()
    with pytest.raises(Terminated):
        nothing_to_keep()
    assert done == ["the transaction"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_without_a_handler_of_ours_nothing_is_deferred():
    with sigterm_deferred():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
