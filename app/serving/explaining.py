"""Explain rows: which columns make a prediction what it is, beside the path of predictions.

Knows rows, a predictor's judgement of them, and resident versions; what is explained is not logged,
captured or counted as a prediction. Works on a thread of its own and takes few requests at a time,
so that predictions go on beside it.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import orjson
from starlette.types import Receive, Scope

from app.contracts.rows import Contract
from app.model.bundle import ModelBundle
from app.model.explanation import SCALES, Explainer, Explanation
from app.serving.desk import Desk, Places, parse
from app.serving.doors import charge
from app.serving.explain_messages import METHOD, REFERENCE, ExplainRequest
from app.serving.messages import Refused
from app.serving.predictor import Predictor
from app.serving.residents import Generation
from app.serving.retries import new_request_id


class Explaining:
    """Reads a request for explanations from its body and writes the answer."""

    def __init__(self, predictor: Predictor, desk: Desk) -> None:
        """Explain by a predictor's resident versions; the desk reads bodies."""
        self.config = predictor.config
        serving = self.config.serving
        self._predictor, self._desk = predictor, desk
        self._most_rows = serving.explain_max_rows
        self._places = Places(serving.explain_max_ongoing, "explanations")
        self._digits = serving.round_probability_digits
        # One: a second would only take turns with it, and with what predicts.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="explaining")

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """Give an ExplainResponse as JSON.

        Raises Refused: 404 for a version that is not resident, 413 for too many rows, 422 when no
        row is acceptable, 429 beyond a budget, 503 without a champion or with too many explanations
        under way.
        """
        self._places.refuse_if_full()
        body = await self._desk.read(scope, receive)
        with self._places.take():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, lambda: self._whole(body, scope))

    def _whole(self, body: bytes, scope: Scope) -> bytes:
        request = parse(body, ExplainRequest)
        if len(request.rows) > self._most_rows:
            got = f"{len(request.rows)}, more than {self._most_rows}"
            raise Refused(413, "rows", got, "send several smaller requests")
        charge(scope, len(request.rows))
        return orjson.dumps(self.explain(request))

    def explain(self, request: ExplainRequest) -> dict[str, Any]:
        """Explain the rows that are acceptable; the answer is an ExplainResponse.

        Raises Refused, see `answer`.
        """
        generation, version, bundle = self._resident(request.version)
        accepted, rejected = self._predictor.judge(request.rows)
        contract = self.config.contract
        explainer = Explainer(bundle)
        telling = Telling(explainer, public_columns(contract, bundle.contract), self._digits)
        explanations = explainer.explain(accepted)
        told = [
            telling.row(one, row, str(row[contract.id]))
            for one, row in zip(explanations, accepted.to_pylist(), strict=True)
        ]
        return {
            "model": self.config.name,
            "version": version,
            "generation": generation.roles.generation,
            "request_id": request.request_id or new_request_id(),
            "scale": SCALES[bundle.contract.task],
            "method": METHOD,
            "reference": telling.reference(explanations[0].reference),
            "explanations": told,
            "rejected": [item.model_dump() for item in rejected],
        }

    def _resident(self, version: str | None) -> tuple[Generation, str, ModelBundle]:
        """Take one generation, the same for the whole request, and a version of it."""
        # Raises Refused while nobody answers.
        self._predictor.readiness()
        generation = self._predictor.residents.current
        assert generation is not None
        named = version or str(generation.roles.champion)
        bundle = generation.bundles.get(named)
        if bundle is None:
            resident = ", ".join(sorted(generation.bundles))
            raise Refused(404, "version", named[:100], f"resident are {resident}")
        assert isinstance(bundle, ModelBundle), "a replica loads bundles"
        return generation, named, bundle


class Telling:
    """Puts explanations into words that may leave the house: values of public columns only."""

    def __init__(self, explainer: Explainer, public: frozenset[str], digits: int | None) -> None:
        self._explainer, self._public, self._digits = explainer, public, digits

    def row(self, one: Explanation, row: Mapping[str, Any], row_id: str) -> dict[str, Any]:
        """Tell one row's Explained."""
        figure = self._figure
        attributions = [
            {
                **self._shown(share.column, row[share.column]),
                "attribution": figure(share.value),
                "standard_error": figure(share.error),
            }
            for share in sorted(one.shares, key=lambda share: -abs(share.value))
        ]
        total = figure(one.reference) + sum(each["attribution"] for each in attributions)
        # Of rounded figures each may be off by half a unit of its last digit.
        rounding = 0.0
        if self._digits is not None:
            rounding = (len(attributions) + 2) * 0.5 * 10.0**-self._digits
        return {
            "row_id": row_id,
            "probability": figure(one.prediction),
            "value": figure(one.worth),
            "attributions": attributions,
            "residual": figure(one.worth) - total,
            "tolerance": one.tolerance + rounding,
            "exact": one.is_exact,
            "orders": one.num_orders,
        }

    def reference(self, worth: float) -> dict[str, Any]:
        """Tell the ReferenceRow, whose worth every explanation names."""
        values = self._explainer.reference.values
        return {
            "description": REFERENCE,
            "probability": self._figure(float(self._explainer.reference_prediction[0])),
            "value": self._figure(worth),
            "columns": [self._shown(name, value) for name, value in values.items()],
        }

    def _shown(self, name: str, value: object) -> dict[str, Any]:
        if name not in self._public:
            return {"column": name, "shown": False, "value": None}
        told = value.isoformat() if isinstance(value, datetime) else value
        return {"column": name, "shown": True, "value": told}

    def _figure(self, value: float) -> float:
        return value if self._digits is None else round(value, self._digits)


def public_columns(*contracts: Contract) -> frozenset[str]:
    """Name the columns that are public in every one of some contracts."""
    return frozenset.intersection(
        *(
            frozenset(c.name for c in (*one.columns, *one.derived) if c.privacy == "public")
            for one in contracts
        )
    )
