"""SIGTERM in the middle of what must not be left half-done; passwords in what is printed or stored."""

import os
import signal

import pytest

from cxr_isnet.errors import InputError, Terminated, hide_passwords, sigterm_deferred, sigterm_interrupts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:s3cret@host:5000/ml", "http://ann:***@host:5000/ml"),
        ("mysql+pymysql://ann:p@ss@db/ml?ssl=1", "mysql+pymysql://ann:***@db/ml?ssl=1"),
        ("'https://:s3cret@host'", "'https://:***@host'"),
        ("postgresql://db/ml?user=ann&password=s3cret&sslmode=require", None),
        ("http://host:5000/a@b: 12:30", "http://host:5000/a@b: 12:30"),
        ("sqlite:////srv/a:b@c/mlflow.db", "sqlite:////srv/a:b@c/mlflow.db"),
        ("column 'a:b@c' of http://host/", "column 'a:b@c' of http://host/"),
    ],
)
def test_no_password_of_a_url_is_told_and_all_else_is(text, shown):
    expected = shown or "postgresql://db/ml?user=ann&password=***&sslmode=require"

    assert hide_passwords(text) == expected
    assert str(InputError(f"tracking uri {text}")) == f"tracking uri {expected}"


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
