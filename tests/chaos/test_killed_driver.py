"""Kill the driver of a training run: the same command goes on, to the same bytes."""

import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from app.config import Config, show_config
from app.registry.artifacts import Artifacts
from app.training.plans import run_folder
from tests.job_process import finish_job, start_job
from tests.learning_world import END, fill_tables, make_config, make_rows

SECONDS = 900
EPOCHS = 30
NUM_KILLS = 3

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def make_world(folder: Path, placement: str) -> tuple[Config, Path]:
    """Write tables and a configuration whose run is long enough to be interrupted."""
    config = make_config(
        folder / "workspace",
        epochs=EPOCHS,
        patience=EPOCHS,
        min_epochs=EPOCHS,
        batch_rows=16,
        placement=placement,
    )
    cluster = config.cluster.model_copy(update={"num_cpus": 2, "dashboard": False})
    config = config.model_copy(update={"cluster": cluster})
    fill_tables(config, make_rows())
    file = folder / "orders.yaml"
    file.write_text(show_config(config))
    return config, file


def start(file: Path, log: Path, run: str) -> subprocess.Popen[str]:
    until = f"{END:%Y-%m-%dT%H:%M:%S}"
    return start_job("train", file, log, "--run", run, "--until", until)


def num_kept(config: Config, run: str) -> int:
    """Give the number of the latest epoch that is kept; 0 before the first."""
    names = (path.name for path in run_folder(config, run).glob("epoch_*"))
    return max((int(name.split("_")[1]) for name in names), default=0)


def kill_after(process: "subprocess.Popen[str]", config: Config, run: str, epoch: int) -> None:
    """Kill a driver at a random moment once so many epochs are kept."""
    deadline = time.monotonic() + SECONDS
    while num_kept(config, run) < epoch:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, f"epoch {epoch} took more than {SECONDS} s"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize("placement", ["in_process", "workers"])
def test_a_run_whose_driver_was_killed_goes_on_to_the_same_weights(
    tmp_path: Path, placement: str
) -> None:
    config, file = make_world(tmp_path, placement)
    log, draw = tmp_path / "log", random.Random(3)
    kept = []
    for number in range(NUM_KILLS):
        target = (number + 1) * 2 * EPOCHS // (NUM_KILLS + 2) + draw.randrange(EPOCHS // 8)
        kill_after(start(file, log, "wild"), config, "wild", target)
        kept.append(num_kept(config, "wild"))
    wild = finish_job(start(file, log, "wild"), log, SECONDS)
    calm = finish_job(start(file, log, "calm"), log, SECONDS)

    # What was kept was not trained again; a worker may outlive its driver by an epoch.
    lines = re.findall(r"^going on after (\d+) epochs", log.read_text(), re.M)
    assert len(lines) == NUM_KILLS
    assert all(int(line) >= epochs > 0 for line, epochs in zip(lines, kept, strict=True))
    assert wild["num_epochs"] == calm["num_epochs"]
    assert weights(config, wild) == weights(config, calm)


def weights(config: Config, record: dict[str, dict[str, str]]) -> bytes:
    folder = Artifacts(config.artifacts_path).path(record["version"]["digest"])
    return (folder / "weights.safetensors").read_bytes()
