"""The table that made-up rows are of: orders with an id, a time, numbers and categories."""

from collections.abc import Iterable, Mapping

from app.contracts.rows import Column, Contract


def values_of(name: str, number: int) -> list[str]:
    """Name the values of a category."""
    return [f"{name}-{i:04d}" for i in range(number)]


def orders(
    numbers: Iterable[Column], categories: Mapping[str, tuple[int, float, bool]]
) -> Contract:
    """Describe orders as a model's configuration would.

    A category has so many values, a share of nulls, and may be a closed set.
    """
    return Contract(
        id="order_id",
        event_time="ordered_at",
        label="returned",
        columns=(
            Column(name="order_id", kind="identifier", feature=False),
            Column(name="ordered_at", kind="time", feature=False),
            *numbers,
            *(
                Column(
                    name=name,
                    kind="category",
                    nullable=nulls > 0,
                    categories=tuple(values_of(name, number)) if closed else None,
                )
                for name, (number, nulls, closed) in categories.items()
            ),
        ),
    )
