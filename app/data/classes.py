"""Remember which class each label in the tables stands for: a label is a place among the classes.

Knows contracts and the transactions of the labels table, one a class, whose number is its place.
Knows nothing of rows.
"""

from app.contracts.rows import Contract
from app.data.deliveries import Mark
from app.data.tables import Tables

CLASS = "class:"


def refuse_other_classes(tables: Tables, contract: Contract) -> None:
    """Raise ValueError where labels in the tables stand for other classes than the contract says.

    Classes that were added at the end are fine.
    """
    if contract.task != "multiclass":
        return
    for name, place in sorted(_held(tables).items(), key=lambda item: item[1]):
        now = contract.classes[place] if place < len(contract.classes) else "none"
        if now != name:
            raise ValueError(
                f"contract.classes: {name} is class {place} in {tables.root}, now it is {now}; "
                "leave the classes of before at their places and add others at the end, or take "
                "another workspace"
            )


def class_marks(tables: Tables) -> list[Mark]:
    """Give what notes the places of those classes that were never noted, for a commit of labels."""
    held = _held(tables) if tables.contract.task == "multiclass" else {}
    classes = enumerate(tables.contract.classes)
    return [(f"{CLASS}{name}", place) for place, name in classes if name not in held]


def _held(tables: Tables) -> dict[str, int]:
    numbers = tables.transactions("labels")
    return {
        name.removeprefix(CLASS): place for name, place in numbers.items() if name.startswith(CLASS)
    }
