"""Carrying out an ONNX file that is not trusted: of operators that end, in bounded memory, so that Ctrl-C ends it."""

import functools
import threading
from typing import Any

from pcdistill.core.errors import InputError

# What the exporter and the quantiser write of networks of this package, and functions of single values that other
# networks may have. None of them holds a graph that is run as often as its values say (Loop), calls another (If) or
# asks for another's code. A Scan goes over a constant, as often as the file has numbers for it.
_NAMES = """
    Abs Add ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv
    CumSum DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND
    Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish
    Mod Mul Neg Not OneHot PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Shape Sigmoid Sign
    Sin Cos Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze
    Where Xor And Or
"""
OPERATORS = frozenset(_NAMES.split())
MEMORY = 2**32  # bytes that all models of a process may take while they run


def check_operators(model: Any, place: object) -> None:
    """Refuse a model whose nodes are not all of `OPERATORS`.

    Raises:
        InputError: naming the operator.
    """
    if len(model.functions) or len(model.training_info):
        raise InputError(place, "functions of its own", "a file written by pcdistill export")
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        scans = _name(node) == "Scan" and len(inner) == 1 and constants.issuperset(_scanned(node))
        for one in inner[0].node if scans else (node,):
            if _name(one) not in OPERATORS or any(part.HasField("g") or part.graphs for part in one.attribute):
                raise InputError(place, f"operator {_name(one)!r:.80}", "those that pcdistill export writes")


def _name(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else str(node.op_type)


def _scanned(node: Any) -> list[str]:
    """What a Scan goes over: the last inputs, as many as it says; one that nothing is called where there is none."""
    count = next((attribute.i for attribute in node.attribute if attribute.name == "num_scan_inputs"), 0)
    return list(node.input)[-count:] if count > 0 else [""]


def bound_memory(runtime: Any, options: Any) -> None:
    """Let a session with these options take at most `MEMORY`: a few bytes can ask for a tensor of any size.

    What needs more fails like any other model that does not run.
    """
    _bounded(runtime)
    options.add_session_config_entry("session.use_env_allocators", "1")


@functools.cache
def _bounded(runtime: Any) -> None:
    """The runtime's memory, which is of the process."""
    place = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg({"max_mem": MEMORY}))


def run(session: Any, run_options: Any, wanted: list[str], given: dict[str, Any]) -> list[Any]:
    """`session.run` in a thread of its own, as the runtime does not look at signals; Ctrl-C asks it to stop.

    Raises:
        Exception: whatever the session raises.
        KeyboardInterrupt: Ctrl-C.
    """
    found: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            found.extend(session.run(wanted, given, run_options))
        except BaseException as error:  # raised again where it is waited for
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        run_options.terminate = True
        raise
    if raised:
        raise raised[0]
    return found
