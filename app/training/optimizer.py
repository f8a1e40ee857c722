"""AdamW as torch has it, without the two seconds that its first use takes.

torch wraps an optimizer's methods so that its compiler leaves them alone, and the wrappers import
the whole compiler when they are first called. Nothing compiles an optimizer here: the methods are
taken as they were before they were wrapped. What they compute is the same.
"""

import inspect
from typing import Any

import torch

_STEP = inspect.unwrap(torch.optim.AdamW.step)


class QuickAdamW(torch.optim.AdamW):
    """torch.optim.AdamW whose first step comes at once."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step as AdamW does."""
        return _STEP(self, closure)
