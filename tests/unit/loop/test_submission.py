import pytest

from app.loop.submission import failure_reason, job_state


@pytest.mark.parametrize(
    ("status", "state"),
    [(None, "absent"), ("PENDING", "running"), ("RUNNING", "running"), ("SUCCEEDED", "succeeded"),
     ("FAILED", "failed"), ("STOPPED", "failed")],
)  # fmt: skip
def test_each_status_of_the_cluster_has_one_meaning(status, state):
    assert job_state(status) == state


def test_the_reason_of_a_failure_is_what_the_job_said_last():
    reason = failure_reason("f-1", "FAILED", "exit code 2", "a\nb\n\nc\nerror: no rows\n")
    assert reason == "training job f-1 ended as failed: b | c | error: no rows"
    assert "exit code 2" in failure_reason("f-1", "FAILED", "exit code 2", "")
