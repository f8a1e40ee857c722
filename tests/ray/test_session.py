"""What Ray tells a driver goes where people look, and not between a program and its record."""

import time

import pytest

from app.session import _tell_on_stderr

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_an_error_of_the_cluster_is_told_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    from ray._private import utils, worker

    _tell_on_stderr()
    utils.push_error_to_driver(worker.global_worker, "test", "a node is on fire")
    out, err = "", ""
    deadline = time.monotonic() + 30
    while "on fire" not in out + err and time.monotonic() < deadline:
        time.sleep(0.1)
        more_out, more_err = capfd.readouterr()
        out, err = out + more_out, err + more_err
    assert "a node is on fire" in err
    assert "a node is on fire" not in out
