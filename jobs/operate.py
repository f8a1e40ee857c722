"""Start the parts that watch and decide: monitor and steward, actors that outlive this job."""

import typer

from app.config import Config, load_config
from app.contracts.targets import require_binary
from app.ledger.database import open_ledger
from app.loop.steward import start_steward
from app.monitoring.monitor import await_monitor, start_monitor
from app.session import Cluster, session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, stay, user_errors


def main(
    config: ConfigFile,
    set_: Overrides = None,
) -> None:
    """Watch the model's traffic and keep the model right."""
    with user_errors():
        settings = load_config(config, set_ or [])
        require_binary(settings.contract, "the loop")
        with session(settings) as cluster:
            report(run(settings, cluster))
            if cluster.started:
                stay("the cluster")


def run(config: Config, cluster: Cluster) -> dict[str, object]:
    """Start both actors, or find them running, and return once they tick."""
    if cluster.dashboard_url is None:
        raise ValueError("cluster.dashboard: training jobs need it; set it to true")
    # Migrated once here, so that the two actors do not do it at the same time.
    open_ledger(config.ledger_url).close()
    monitor = start_monitor(config)
    ticking = start_steward(config, cluster.dashboard_url)
    return {"model": config.name, "metrics_url": await_monitor(monitor), "steward": ticking}


if __name__ == "__main__":
    typer.run(main)
