"""The engines that edgec is timed against, each a process that answers lines.

    peers.py ENGINE MODEL      prints `ready`, then for each line `<seconds>` on standard input runs that
                               long and answers `<min> <median> <count>` in microseconds

One thread, inputs and outputs bound before the clock starts, so that an engine pays for its inference only.
"""

import sys
import time

import numpy as np


def sample(shape, dtype, index=0):
    """The values that every engine gets for an input: a fixed pseudo-random sequence."""
    rng = np.random.default_rng(1 + index)
    dtype = np.dtype(dtype)
    if dtype == np.bool_ or dtype.kind in "iu" and dtype.itemsize > 1:
        return rng.integers(0, 2, shape).astype(dtype)  # indices, masks and lengths that any model takes
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max + 1, shape).astype(dtype)
    return rng.uniform(-1, 1, shape).astype(dtype)


def ort_session(model, optimized=True):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ort_type(arg):
    names = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    return names.get(arg.type, arg.type[len("tensor(") : -1])


def ort(model):
    import onnxruntime as rt

    session = ort_session(model)
    binding = session.io_binding()
    for i, arg in enumerate(session.get_inputs()):
        binding.bind_ortvalue_input(arg.name, rt.OrtValue.ortvalue_from_numpy(sample(arg.shape, ort_type(arg), i)))
    for arg in session.get_outputs():
        binding.bind_output(arg.name)
    return lambda: session._sess.run_with_iobinding(binding._iobinding, None)


def openvino(model):
    import openvino as ov

    compiled = ov.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request = compiled.create_infer_request()
    for i, port in enumerate(compiled.inputs):
        request.set_tensor(port, ov.Tensor(sample(list(port.shape), port.element_type.to_dtype(), i)))

    def call():
        request.start_async()
        request.wait()

    return call


def litert(model):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    for i, d in enumerate(interpreter.get_input_details()):
        interpreter.set_tensor(d["index"], sample(d["shape"], d["dtype"], i))
    return interpreter.invoke


def main():
    call = {"ort": ort, "openvino": openvino, "litert": litert}[sys.argv[1]](sys.argv[2])
    call()
    print("ready", flush=True)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        times, end = [], clock() + int(float(line) * 1e9)
        while not times or clock() < end:
            start = clock()
            call()
            times.append(clock() - start)
        times.sort()
        print(f"{times[0] / 1e3:.3f} {times[len(times) // 2] / 1e3:.3f} {len(times)}", flush=True)


if __name__ == "__main__":
    main()
