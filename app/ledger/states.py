"""Where the loop of each model stands, changed only together with the outcome of a decision.

Knows how a LoopState is kept; knows nothing of its phases.
"""

from sqlalchemy import Connection, Text, column, delete, insert, select, table

from app.contracts.records import LoopState
from app.ledger.database import Ledger

STATES = table("loop_states", column("model", Text), column("state", Text))


def read_state(ledger: Ledger, model: str) -> LoopState:
    """Read where a model's loop stands; a loop that never acted stands at the start."""
    with ledger.reading() as connection:
        return current_state(connection, model)


def current_state(connection: Connection, model: str) -> LoopState:
    """Read where a loop stands inside the caller's transaction."""
    found = connection.execute(select(STATES.c.state).where(STATES.c.model == model)).scalar()
    return LoopState(model=model) if found is None else LoopState.model_validate_json(found)


def write_state(connection: Connection, state: LoopState) -> None:
    """Replace a loop's state, inside the caller's transaction."""
    connection.execute(delete(STATES).where(STATES.c.model == state.model))
    connection.execute(insert(STATES).values(model=state.model, state=state.model_dump_json()))
