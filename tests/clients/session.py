"""One session of each real client of the Open Inference Protocol, call by call.

Runs in the clients' own environment and imports nothing of ours. Reads from its standard input what
to ask: {"url", "key", "model", "columns": {name: kind}, "rows", "bad"}. Prints what was called and
what came back for people, and as its last line the same as one JSON list.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Any

Calls = list[dict[str, Any]]
NUM_PLAIN = 3
"""So many of the first rows have no nulls: a client's JSON has no word for NaN."""


def main() -> None:
    """Hold both sessions."""
    asked = json.load(sys.stdin)
    calls: Calls = []
    triton_session(asked, calls)
    asyncio.run(kserve_session(asked, calls))
    print(json.dumps(calls))


def noted(calls: Calls, client: str, call: str, work: Callable[[], Any]) -> Any:
    """Make a call and note what came back, or what was raised."""
    try:
        result, told = work(), None
    except Exception as error:
        result, told = None, f"{type(error).__name__}: {error}"
    note(calls, client, call, result, told)
    return result


def note(calls: Calls, client: str, call: str, result: Any, raised: str | None) -> None:
    """Note a call for programs, and show it to people."""
    calls.append({"client": client, "call": call, "result": result, "raised": raised})
    shown = f"raised {raised}" if raised else json.dumps(result)
    print(f"[{client}] {call}\n    -> {shown[:1200]}")


def arrays(asked: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, tuple[str, Any]]:
    """Write rows as arrays by column, with their datatypes; a null is NaN, or an empty text."""
    import numpy as np

    made: dict[str, tuple[str, Any]] = {}
    for name, kind in asked["columns"].items():
        values = [row[name] for row in rows]
        if kind == "number":
            numbers = [np.nan if value is None else value for value in values]
            made[name] = ("FP64", np.array(numbers, np.float64))
        else:
            made[name] = ("BYTES", np.array([value or "" for value in values], np.object_))
    return made


def as_texts(values: Any) -> list[str]:
    """Read a tensor of texts, which come as bytes in binary and as text in JSON."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def triton_session(asked: dict[str, Any], calls: Calls) -> None:
    """Ask by tritonclient.http, as Triton's users do."""
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    client_name = f"tritonclient {version_of('tritonclient')}"
    model, headers = asked["model"], {"Authorization": f"Bearer {asked['key']}"}
    client = InferenceServerClient(asked["url"].removeprefix("http://"))

    def call(name: str, work: Callable[[], Any]) -> Any:
        return noted(calls, client_name, name, work)

    call("is_server_live()", client.is_server_live)
    call("is_server_ready()", client.is_server_ready)
    call(f"is_model_ready({model!r})", lambda: client.is_model_ready(model, headers=dict(headers)))
    call("get_server_metadata()", lambda: client.get_server_metadata(headers=dict(headers)))
    call("get_server_metadata() without a key", client.get_server_metadata)
    metadata = call(
        f"get_model_metadata({model!r})",
        lambda: client.get_model_metadata(model, headers=dict(headers)),
    )
    call(
        "get_model_metadata('boats')",
        lambda: client.get_model_metadata("boats", headers=dict(headers)),
    )

    def infer(rows: list[dict[str, Any]], binary: bool, outputs: Any, **more: Any) -> Any:
        inputs = []
        for name, (datatype, values) in arrays(asked, rows).items():
            tensor = InferInput(name, list(values.shape), datatype)
            inputs.append(tensor.set_data_from_numpy(values, binary_data=binary))
        result = client.infer(model, inputs, outputs=outputs, headers=dict(headers), **more)
        response = result.get_response()
        return {
            "id": response.get("id"),
            "version": response["model_version"],
            "probability": result.as_numpy("probability").tolist(),
            "prediction_id": as_texts(result.as_numpy("prediction_id")),
            "binary": ["binary_data_size" in o.get("parameters", {}) for o in response["outputs"]],
        }

    rows, known = asked["rows"], {"parameters": {"empty_is_null": True}}
    call("infer(binary in, binary out)", lambda: infer(rows, True, None, request_id="t1", **known))
    names = ("probability", "prediction_id")
    plain = [InferRequestedOutput(name, binary_data=False) for name in names]
    call("infer(JSON in, JSON out)", lambda: infer(rows[:NUM_PLAIN], False, plain))
    champion = metadata["versions"][0] if metadata else ""
    call(
        "infer(model_version=the champion)",
        lambda: infer(rows, True, None, model_version=champion, **known),
    )
    call(
        "infer(model_version='1')",
        lambda: infer(rows, True, None, model_version="1", **known),
    )
    call("infer(with a row that is not acceptable)", lambda: infer(asked["bad"], True, None))
    call(
        "infer(compressed by gzip)",
        lambda: infer(rows, True, None, request_compression_algorithm="gzip", **known),
    )
    client.close()


async def kserve_session(asked: dict[str, Any], calls: Calls) -> None:
    """Ask by KServe's client, as its users do."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    client_name = f"kserve {version_of('kserve')}"
    url, model, headers = asked["url"], asked["model"], {"Authorization": f"Bearer {asked['key']}"}

    async def call(name: str, work: Callable[[], Any]) -> None:
        try:
            result, raised = await work(), None
        except Exception as error:
            result, raised = None, f"{type(error).__name__}: {error}"
        note(calls, client_name, name, result, raised)

    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:

        async def infer(rows: list[dict[str, Any]], binary: bool, **more: Any) -> Any:
            inputs = []
            for name, (datatype, values) in arrays(asked, rows).items():
                tensor = InferInput(name, list(values.shape), datatype)
                tensor.set_data_from_numpy(values, binary_data=binary)
                inputs.append(tensor)
            request = InferRequest(model_name=model, infer_inputs=inputs, **more)
            response = await client.infer(url, request, model_name=model, headers=dict(headers))
            outputs = {output.name: output.as_numpy().tolist() for output in response.outputs}
            return {
                "id": response.id,
                "probability": outputs["probability"],
                "prediction_id": as_texts(outputs["prediction_id"]),
            }

        await call("is_server_live()", lambda: client.is_server_live(url))
        await call("is_server_ready()", lambda: client.is_server_ready(url))
        await call(
            f"is_model_ready({model!r})",
            lambda: client.is_model_ready(url, model, headers=dict(headers)),
        )
        await call(
            "is_model_ready('boats')",
            lambda: client.is_model_ready(url, "boats", headers=dict(headers)),
        )
        rows, known = asked["rows"], {"empty_is_null": True}
        await call(
            "infer(binary in, JSON out)",
            lambda: infer(rows, True, request_id="k1", parameters=dict(known)),
        )
        await call(
            "infer(binary in, binary out)",
            lambda: infer(rows, True, parameters={**known, "binary_data_output": True}),
        )
        wanted = [RequestedOutput(name) for name in ("probability", "prediction_id")]
        await call(
            "infer(JSON in, JSON out)",
            lambda: infer(rows[:NUM_PLAIN], False, request_outputs=wanted),
        )
        await call("infer(with a row that is not acceptable)", lambda: infer(asked["bad"], True))


if __name__ == "__main__":
    main()
