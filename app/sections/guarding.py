"""What happens to a row that is acceptable and yet unlike those that a model has learned from.

Knows names, bounds and units; knows nothing of models, or of the parts that read them.
"""

from typing import Literal

from pydantic import Field

from app.contracts.rows import Frozen

Policy = Literal["off", "flag", "clip", "abstain", "refuse"]
TextPolicy = Literal["off", "flag", "abstain", "refuse"]


class GuardConfig(Frozen):
    """A policy for each kind of finding.

    off: nothing is looked for. flag: the row is answered and the answer says so. clip: likewise,
    and the model is given the nearest value that training has seen. abstain: the row is rejected
    with the reason, others of the request are answered. refuse: the whole request is.
    """

    range: Policy = Field(
        "off", description="A number under the least or over the greatest value of training."
    )
    outlier: Policy = Field(
        "off", description="A number that is far out there; where off, range decides on it too."
    )
    unseen: TextPolicy = Field(
        "off",
        description="A category that the model does not know and the contract does not list: "
        "training has not seen it, or too seldom to tell it from others.",
    )
    outlier_iqrs: float = Field(
        3.0,
        gt=0,
        description="Far out is further than so many interquartile ranges beyond the range.",
    )
