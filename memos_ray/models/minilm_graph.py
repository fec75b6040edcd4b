"""MiniLM's weights -> an ONNX graph that multiplies in eight bits.

Made in memory when the model is loaded (some tenths of a second), so nothing is downloaded and no file has to be
kept in step with the weights. Four things make int8 as good as float32 for retrieval, and equal everywhere:

- Every token has its own scale (LLM.int8, Dettmers et al. 2022: vector-wise quantisation). A text's vector does
  not depend on what else is in the batch, and no range is fixed in advance that a strange text could leave.
- Channels with outliers are made smaller before, and their weights larger (SmoothQuant, Xiao et al. 2023). The
  factors come with this package; see `smoothing.py`.
- GELU's output is almost all positive: it is moved up by its least value, and the eight bits go from there.
- AVX2 without VNNI adds the products of two neighbours in 16 bits, which can overflow. A column's scale keeps
  every pair of neighbouring weights small enough (|w0| + |w1| <= 128), which costs a fraction of a bit, where
  seven-bit weights would cost a whole one.

Only matrix products are quantised: attention, layer norms, GELU and the sums of residuals stay in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[Any]]

DIM, HIDDEN, HEADS, LAYERS = 384, 1536, 12, 6
INPUTS = {"qkv": DIM, "o": DIM, "f1": DIM, "f2": HIDDEN}  # what is quantised in a layer, and how wide it is
FORM = "int8-1"  # part of the fingerprint: to be changed with whatever changes vectors here

_GELU_MIN = 0.17  # GELU is at least -0.16998
_EPSILON = 1e-12
_MS = "com.microsoft"


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: Any) -> str:
        value = np.asarray(value)
        self.constants[name] = value.astype(np.float32) if value.dtype == np.float64 else value
        return name

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def layer_norm(self, x: str, weights: Weights, name: str, output: str) -> str:
        gamma = self.constant(f"{output}.gamma", weights[f"{name}.weight"])
        beta = self.constant(f"{output}.beta", weights[f"{name}.bias"])
        return self.node("LayerNormalization", [x, gamma, beta], output, epsilon=_EPSILON)

    def product(self, x: str, matrix: NDArray[np.float32], output: str, *, positive: bool = False) -> str:
        """x (…, K) times `matrix` (K, N), both in eight bits, x with a scale for each row."""
        absolute = x if positive else self.node("Abs", [x], f"{output}.abs")
        largest = self.node("ReduceMax", [absolute], f"{output}.max", axes=[-1], keepdims=1)
        # A row of zeros (which no layer norm gives) must not divide by zero.
        largest = self.node("Max", [largest, "tiny"], f"{output}.range")
        scale = self.node("Mul", [largest, "1/255" if positive else "1/127"], f"{output}.scale")
        scaled = self.node("Div", [x, scale], f"{output}.scaled")
        zero = "zero" if positive else "middle"
        bits = self.node("QuantizeLinear", [scaled, "one", zero], f"{output}.bits")
        weights, scales = eight_bits(matrix)
        inputs = [bits, self.constant(f"{output}.weights", weights), "one"]
        inputs += [self.constant(f"{output}.scales", scales), zero]
        inputs.append(self.constant(f"{output}.zeros", np.zeros(matrix.shape[1], np.int8)))
        summed = self.node("MatMulIntegerToFloat", inputs, f"{output}.summed", _MS)
        return self.node("Mul", [summed, scale], output)


def eight_bits(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(K, N), K even -> int8 of the same shape and (N,) scales, `matrix ≈ weights * scales`.

    In a column, neighbours 2k and 2k+1 add up to 128 at most: 255 * 128 < 2¹⁵, so 16 bits hold their products' sum.
    """
    size = np.abs(matrix)
    scales = np.maximum((size[0::2] + size[1::2]).max(0), np.float32(1e-12)) / 127
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)


def build(weights: Weights, smoothing: NDArray[np.float32]) -> bytes:
    """A serialised ONNX model: `embedded` (B, L, 384) and `lengths` (B,) int32 -> `hidden` (B, L, 384).

    `embedded` is word plus position plus type, before their layer norm. `smoothing` (6, 2688): the factors of
    the channels of `INPUTS`, in their order.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph()
    for name, number in (("one", 1), ("1/127", 1 / 127), ("1/255", 1 / 255), ("tiny", 1e-9)):
        graph.constant(name, np.float32(number))
    graph.constant("middle", np.uint8(128))
    graph.constant("zero", np.uint8(0))
    graph.constant("thirds", np.array([DIM] * 3))
    x = graph.layer_norm("embedded", weights, "embeddings.LayerNorm", "x")
    widths = np.cumsum([0, *INPUTS.values()])
    for i in range(LAYERS):
        factors = {name: smoothing[i, a:b] for name, a, b in zip(INPUTS, widths, widths[1:], strict=False)}
        x = _layer(graph, weights, i, x, factors)
    graph.node("Identity", [x], "hidden")

    def value(name: str, kind: int, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    made = helper.make_graph(
        graph.nodes,
        "minilm",
        [value("embedded", TensorProto.FLOAT, ["B", "L", DIM]), value("lengths", TensorProto.INT32, ["B"])],
        [value("hidden", TensorProto.FLOAT, ["B", "L", DIM])],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in graph.constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_MS, 1)]
    model: bytes = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    return model


def _layer(graph: _Graph, weights: Weights, i: int, x: str, factors: Weights) -> str:
    at, name = f"encoder.layer.{i}.", f"{i}."

    def linear(part: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return weights[f"{at}{part}.weight"].T, weights[f"{at}{part}.bias"]

    (out, out_bias), (wide, wide_bias) = linear("attention.output.dense"), linear("intermediate.dense")
    narrow, narrow_bias = linear("output.dense")
    threes = [tuple(map(np.array, linear(f"attention.self.{part}"))) for part in ("query", "key", "value")]
    # Attention passes values through linearly, so the factors of its output go into the values' weights.
    for values in threes[2]:
        values /= factors["o"]
    qkv, qkv_bias = (np.concatenate(part, axis=-1) for part in zip(*threes, strict=True))

    def smoothed(x: str, part: str) -> str:
        return graph.node(
            "Mul", [x, graph.constant(f"{name}{part}.s", 1 / factors[part])], f"{name}{part}.in"
        )

    y = graph.product(smoothed(x, "qkv"), qkv * factors["qkv"][:, None], f"{name}qkv")
    split = [f"{name}{part}" for part in ("query", "key", "value")]
    from onnx import helper

    graph.nodes.append(helper.make_node("Split", [y, "thirds"], split, axis=-1))
    inputs = [*split, graph.constant(f"{name}qkv.bias", qkv_bias), "lengths"]
    y = graph.node("MultiHeadAttention", inputs, f"{name}attention", _MS, num_heads=HEADS)
    y = graph.product(y, out * factors["o"][:, None], f"{name}o")
    rest = graph.node("Add", [x, graph.constant(f"{name}o.bias", out_bias)], f"{name}rest")
    y = graph.node("Add", [y, rest], f"{name}sum")
    x = graph.layer_norm(y, weights, f"{at}attention.output.LayerNorm", f"{name}x")

    y = graph.product(smoothed(x, "f1"), wide * factors["f1"][:, None], f"{name}f1")
    y = graph.node("BiasGelu", [y, graph.constant(f"{name}f1.bias", wide_bias)], f"{name}gelu", _MS)
    y = smoothed(y, "f2")
    y = graph.node("Add", [y, graph.constant(f"{name}f2.up", _GELU_MIN / factors["f2"])], f"{name}f2.up.in")
    y = graph.product(y, narrow * factors["f2"][:, None], f"{name}f2", positive=True)
    bias = narrow_bias - np.float32(_GELU_MIN) * narrow.sum(0)
    rest = graph.node("Add", [x, graph.constant(f"{name}f2.bias", bias)], f"{name}f2.rest")
    y = graph.node("Add", [y, rest], f"{name}f2.sum")
    return graph.layer_norm(y, weights, f"{at}output.LayerNorm", f"{name}f2.x")
