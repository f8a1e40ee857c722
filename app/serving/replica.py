"""Put one replica together from its ledger, artifacts, tables, spool, residents; start and stop it.

The one place that knows all parts of serving; it knows nothing of HTTP or Ray. The machine's clocks
are parameters.
"""

from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from app.background import Pace
from app.config import Config
from app.contracts.receipts import Receipt
from app.contracts.targets import require_binary
from app.data.tables import NAMES, Tables, open_tables
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.registry.receipts import ReceiptUnknown, read_receipt
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from app.serving.accounting import Accounting, open_budgets
from app.serving.capture import Spool
from app.serving.carrier import CarrierProcess, carry_here
from app.serving.erased import TombstoneWatch
from app.serving.following import Follower, FollowerThread, LedgerClock
from app.serving.messages import Refused
from app.serving.predictor import Predictor
from app.serving.reporting import LossReports
from app.serving.residents import Residents
from app.serving.retries import Namer
from app.serving.scaling import Latencies
from app.serving.shipper import Carrying, Shipper
from app.serving.state_messages import Metadata
from app.serving.upkeep import Upkeep, open_online

# A champion is loaded in less than a second or two.
SETTLE_SECONDS = 60.0


class ReplicaUnwell(RuntimeError):
    """A part of the replica has ended; it must be replaced."""


class Replica:
    """One serving process."""

    def __init__(
        self, config: Config, wall: Callable[[], float], steady: Callable[[], float]
    ) -> None:
        """Open everything; nothing runs before `start`. Raises ValueError unless it is binary.

        The ledger may be away: it is asked for nothing yet.
        """
        require_binary(config.contract, "serving")
        self._ledger = open_ledger(config.ledger_url, later=True)
        artifacts = Artifacts(config.artifacts_path)
        tables = open_tables(config)
        self._config = config
        self._wall = wall
        self.steady = steady
        self.latencies = Latencies()
        self.namer = Namer(config.contract, wall if config.clock == "wall" else None)
        self._spool = _open_spool(config, tables, wall)
        self._reports = LossReports(self._ledger, config.name, self._spool, wall)
        erased = TombstoneWatch(self._ledger, config.name, Tombstones(pseudonym_key(config)))
        carrier = self._carry(tables, erased)
        self._shipper = Shipper(self._spool, carrier, config.serving.ship_seconds)
        self._residents = Residents(
            config.contract, lambda digest: ModelBundle.load(artifacts.path(digest), digest)
        )
        self.budgets = open_budgets(config)
        self._following = self._follow(steady, erased.refresh)
        clock = LedgerClock(self._ledger, config, wall)
        online, every = open_online(config), config.serving.ship_seconds
        self._upkeep = None if online is None else Upkeep(online, tables, clock, every)
        self.predictor = Predictor(
            config=config,
            replica=self._spool.id,
            residents=self._residents,
            spool=self._spool,
            tables=tables,
            pseudonymiser=Pseudonymiser(pseudonym_key(config)),
            clock=clock,
            erased=erased,
            online=online,
        )

    def wall(self) -> float:
        """Tell the machine's time in seconds since 1970, whatever clock the model goes by."""
        return self._wall()

    def _follow(self, steady: Callable[[], float], also: Callable[[], object]) -> FollowerThread:
        """Make what follows the roles, tells and learns counts and does `also`, each round.

        The first round is before the first request: a restart forgets nothing of the day.
        """
        model, replica = self._config.name, self._spool.id
        accounting = Accounting(self._ledger, model, replica, self.budgets, self._wall)
        each_round = _in_turn(accounting.tick, self._reports.tick, also)
        follower = Follower(self._ledger, model, replica, self._residents, also=each_round)
        every = self._config.serving.roles_poll_seconds
        return FollowerThread(follower, every, wall=self._wall, steady=steady)

    def _carry(self, tables: Tables, erased: TombstoneWatch) -> Carrying:
        """Make what brings captured rows into the tables: a process of its own, or a thread."""
        if self._config.serving.capture.ship_in == "process":
            return CarrierProcess(self._config, self._spool.lock_descriptor)
        return carry_here(self._config, self._ledger, tables, erased, Pace(self.steady))

    def start(self) -> None:
        """Follow the roles and ship in the background; returns when a champion is resident.

        Or when there is none, or none that fits, or a minute after the ledger could be asked.
        Raises LedgerMismatch for a ledger of another version.
        """
        self._following.start(SETTLE_SECONDS)
        self._shipper.start()
        if self._upkeep is not None:
            self._upkeep.start()

    def stop(self) -> None:
        """Leave the list of replicas, ship what is left, close everything."""
        self._following.stop()
        self.predictor.shadowing.stop()
        self._shipper.stop()
        if self._upkeep is not None:
            self._upkeep.stop()
        self._ledger.close()

    def ship(self) -> None:
        """Ship everything kept so far, and bring it into the online store, now."""
        self._shipper.ship()
        if self._upkeep is not None:
            self._upkeep.tick()

    def check_health(self) -> None:
        """Raise ReplicaUnwell when a background thread has ended."""
        if not self._following.alive:
            raise ReplicaUnwell("the thread that follows the roles has ended")
        if not self._shipper.alive:
            raise ReplicaUnwell("the thread that ships the spool has ended")
        if self._upkeep is not None and not self._upkeep.alive:
            raise ReplicaUnwell("the thread that keeps up the online store has ended")

    def receipt(self, prediction_id: str) -> Receipt:
        """Look up what a prediction was made with. Raises Refused: 404, or 503 without a ledger."""
        tables, model = self.predictor.tables, self._config.name
        try:
            return read_receipt(tables, self._ledger, model, prediction_id)
        except ReceiptUnknown as unknown:
            wait = f"predictions are there some {self._config.serving.ship_seconds:g} s after"
            raise Refused(404, "prediction", str(unknown), f"{wait} their answer") from None
        except SQLAlchemyError as error:
            raise Refused(503, "ledger", "it does not answer", "try again later") from error

    def metadata(self) -> Metadata:
        """Say what this replica serves, and with what."""
        current = self._residents.current
        roles = current.roles if current else None
        counts = self._shipper.counts
        contract = self._config.contract
        return Metadata(
            model=self._config.name,
            generation=roles.generation if roles else 0,
            champion=roles.champion if roles else None,
            previous=roles.previous if roles else None,
            challenger=roles.challenger if roles else None,
            resident=sorted(current.bundles) if current else [],
            problems=self._residents.problems,
            shadow=self.predictor.shadowing.told(current),
            captured=counts.captured,
            shipped=counts.shipped,
            lost=self._spool.losses.by_table() if self._spool.losses else {},
            waiting_bytes=self._spool.num_bytes,
            roles_age_seconds=self._following.age_seconds,
            label=contract.label,
            columns=[
                column.model_dump(mode="json", exclude_defaults=True) for column in contract.columns
            ],
        )


def _open_spool(config: Config, tables: Tables, wall: Callable[[], float]) -> Spool:
    capture = config.serving.capture
    return Spool(
        config.spool_path,
        {name: tables.schema(name) for name in NAMES},
        keyring=tables.sealing.for_new,
        max_mb=capture.max_spool_mb,
        counts_losses_by=wall if capture.when_full == "answer" else None,
    )


def _in_turn(*parts: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        for part in parts:
            part()

    return call
