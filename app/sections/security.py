"""How what is kept is protected.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from pydantic import Field

from app.contracts.rows import Frozen


class EncryptionConfig(Frozen):
    """What is sealed on disk; keys are never here, see app/security/keyring.py."""

    at_rest: bool = Field(
        True,
        description="Seal personal and quasi columns, and what quotes them, in new data files; and "
        "whole: staged files, captured rows, the online store.",
    )
