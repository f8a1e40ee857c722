"""How a network's pass is computed: in which precision, and compiled or not.

Knows torch; knows nothing of rows, epochs or Ray.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from app.sections import TrainingConfig

logger = logging.getLogger(__name__)

Forward = Callable[[Tensor, Tensor], Tensor]


def forward_of(module: nn.Module, config: TrainingConfig, device: torch.device) -> Forward:
    """Give the module's pass as the configuration asks for it; logits come in float32.

    In bfloat16 the weights, the loss, the optimizer and the average of the weights stay in float32:
    only products of matrices are computed in half the width.
    """
    run: Forward = _compiled(module, device) if config.compile else module
    if config.precision == "float32":
        return run

    def narrow(numbers_BF: Tensor, categories_BC: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits_BKO = run(numbers_BF, categories_BC)
        return logits_BKO.float()

    return narrow


def _compiled(module: nn.Module, device: torch.device) -> Forward:
    """Compile the module, or say why not and give it as it is."""
    if (reason := _missing_compiler(device)) is not None:
        logger.warning("training.compile: training goes on without torch.compile: %s", reason)
        return module
    compiled: Forward = torch.compile(module, dynamic=False)
    return compiled


def _missing_compiler(device: torch.device) -> str | None:
    """Try the compiler on a small function; give what it said, None if it works here.

    A GPU needs Triton, a CPU a C++ compiler with its headers. The generators stay where they were.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    def double(x: Tensor) -> Tensor:
        return x.sin() * 2

    with torch.random.fork_rng():
        try:
            torch.compile(double)(torch.ones(64, device=device))
        except (TorchDynamoException, InductorError, RuntimeError, OSError) as error:
            return str(error).strip().splitlines()[0][:300] if str(error) else type(error).__name__
    return None
