#!/usr/bin/env python3
"""Times edgec beside ONNX Runtime, OpenVINO and LiteRT, in turns, on one pinned core.

    python -m venv v && v/bin/pip install -r tests/bench/requirements.txt
    v/bin/python tests/bench/compare.py --models DIR [--tflite DIR] [--only NAME …] [--out FILE.json]

`DIR` holds `NAME.onnx` files (all shapes fixed) and, where there is one, an `index.json` with their multiplications
and weights; `--tflite` holds the same networks as `NAME.tflite`. For each model:

1. ONNX Runtime's outputs on a fixed input are written down and `edgec verify` must pass on them, with exactly the
   options that are then timed. A model that fails is not timed. (`agrees` says what holds for quantized models.)
2. All engines are started and take turns, `--secs` each, `--rounds` times, so that the machine's drift hits all alike.
3. Printed: median microseconds of each, ours over the best peer's, ours over the machine's limit.

The limit is the larger of the multiplications at the core's peak and the weights at the bandwidth of the cache that
holds them (`cargo run --release -p edgec-runtime --example machine_limits`, measured in the same run).
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import peers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Engine:
    """A process that answers `<min> <median> <count>` to each `<seconds>`."""

    def __init__(self, name, command, core, log):
        self.name, self.rounds = name, []
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=dict(os.environ, OMP_NUM_THREADS="1"),
        )
        self.alive = any(line.startswith("ready") for line in self.process.stdout)

    def run(self, seconds):
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
            least, median, _ = map(float, self.process.stdout.readline().split())
            return least, median
        except (BrokenPipeError, ValueError):
            self.alive = False
            return None

    def close(self):
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()


def agrees(edgec, model, options, folder):
    """Whether `edgec verify` passes on outputs that ONNX Runtime gives; the reason where it does not.

    A quantized model's outputs are those of ONNX Runtime without optimizations, which computes what the operators say. Deep
    networks carry a rounding on: the tolerance is what ONNX Runtime's own optimizations change in them, if that is more.
    """
    import numpy as np
    import onnx

    data = pathlib.Path(folder) / "set_0"
    data.mkdir()
    file = pathlib.Path(folder) / model.name
    file.symlink_to(model.resolve())
    session = peers.ort_session(str(model))
    nodes = onnx.load(model, load_external_data=False).graph.node
    quantized = any(node.op_type == "DequantizeLinear" for node in nodes)
    plain = peers.ort_session(str(model), optimized=False) if quantized else session
    feed = {}
    for i, arg in enumerate(session.get_inputs()):
        feed[arg.name] = peers.sample(arg.shape, peers.ort_type(arg), i)
        np.save(data / f"input_{i}.npy", feed[arg.name])
    expected = plain.run(None, feed)
    for i, value in enumerate(expected):
        np.save(data / f"output_{i}.npy", value)
    if quantized:
        apart = [float(np.abs(a - b).max()) for a, b in zip(expected, session.run(None, feed))]
        tolerance = [{"rtol": 1e-3, "atol": max(1e-5, d)} for d in apart]
        (pathlib.Path(folder) / "case.json").write_text(json.dumps({"tolerance": tolerance}))
    done = subprocess.run(
        [edgec, "verify", str(file), "--data", folder, *options], capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def machine(core):
    build = ["cargo", "build", "--release", "--quiet", "-p", "edgec-runtime", "--example", "machine_limits"]
    subprocess.run(build, cwd=ROOT, check=True)
    program = ROOT / "target/release/examples/machine_limits"
    return json.loads(subprocess.check_output(["taskset", "-c", str(core), str(program)]))


def bandwidth(limits, size):
    """Bytes per nanosecond at which `size` bytes that are read again and again come by, between measured sizes."""
    sweep = limits["read_gbs"]
    if size <= sweep[0][0]:
        return sweep[0][1]
    for (x0, y0), (x1, y1) in zip(sweep, sweep[1:]):
        if size <= x1:
            return y0 + (math.log(size / x0) / math.log(x1 / x0)) * (y1 - y0)
    return sweep[-1][1]


def limit_us(limits, entry, integer):
    """What the core needs at least: compute, or weights; recurrent weights are read at each step."""
    rate = limits["int8_gmacs"] * 1e3 if integer else limits["f32_gflops"] / 2 * 1e3
    if entry["steps"]:
        step = max(entry["step_bytes"] / bandwidth(limits, entry["step_bytes"]) / 1e3, entry["step_macs"] / rate)
        return entry["steps"] * step + (entry["macs"] - entry["steps"] * entry["step_macs"]) / rate
    weights = entry["stream_bytes"] / bandwidth(limits, entry["stream_bytes"]) / 1e3
    return max(entry["macs"] / rate, weights)


def one(model, args, log):
    name = model.stem
    row = {}
    if not args.no_verify:
        with tempfile.TemporaryDirectory() as folder:
            reason = agrees(args.edgec, model, args.option, folder)
        if reason:
            print(f"{name}: outputs do not agree, so it is not timed\n{reason}", flush=True)
            return {"error": "outputs do not agree"}
    commands = {"edgec": [args.edgec, "bench", str(model), "--serve", *args.option]}
    for peer in args.peers:
        file = pathlib.Path(args.tflite or "") / f"{name}.tflite" if peer == "litert" else model
        if peer != "litert" or args.tflite and file.exists():
            commands[peer] = [sys.executable, str(HERE / "peers.py"), peer, str(file)]
    engines = [Engine(n, c, args.core, log) for n, c in commands.items()]
    for engine in engines:
        engine.alive and engine.run(args.secs / 3)
    for _ in range(args.rounds):
        for engine in engines:
            if engine.alive and (answer := engine.run(args.secs)):
                engine.rounds.append(answer)
    for engine in engines:
        engine.close()
        if engine.rounds:
            medians = [m for _, m in engine.rounds]
            row[engine.name] = {
                "median_us": statistics.median(medians),
                "min_us": min(m for m, _ in engine.rounds),
                "spread": (max(medians) - min(medians)) / statistics.median(medians),
            }
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, type=pathlib.Path, help="folder of *.onnx")
    parser.add_argument("--tflite", help="folder of the same networks as *.tflite")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--peers", nargs="*", default=["ort", "openvino", "litert"])
    parser.add_argument("--edgec", default=str(ROOT / "target/release/edgec"))
    parser.add_argument("--option", action="append", default=[], help="passed on to `edgec verify` and `edgec bench`")
    parser.add_argument("--no-verify", action="store_true", help="skip the check of the outputs")
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--secs", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    limits = machine(args.core)
    index = args.models / "index.json"
    index = json.loads(index.read_text()) if index.exists() else {}
    files = sorted(args.models.glob("*.onnx"), key=lambda f: index.get(f.stem, {}).get("macs", 0))
    results, ratios = {"limits": limits, "models": {}}, []
    heads = ["edgec", *args.peers]
    print(f"{'model':22}" + "".join(f"{h:>11}" for h in heads) + "   of best  of limit", flush=True)
    with tempfile.TemporaryFile("w+") as log:
        for model in files:
            if args.only and model.stem not in args.only:
                continue
            row = results["models"][model.stem] = one(model, args, log)
            if "edgec" not in row:
                log.seek(0)
                print(f"{model.stem:22}  not timed {log.read()[-500:]}", flush=True)
                continue
            ours = row["edgec"]["median_us"]
            best = min((row[p]["median_us"] for p in args.peers if p in row), default=math.nan)
            row["of_best_peer"] = ours / best
            if model.stem in index and limits:
                row["of_limit"] = ours / limit_us(limits, index[model.stem], model.stem.endswith(("_u8", "_s8")))
            ratios.append(row["of_best_peer"])
            cells = "".join(f"{row[h]['median_us']:11.1f}" if h in row else f"{'-':>11}" for h in heads)
            print(f"{model.stem:22}{cells}{row['of_best_peer']:10.2f}{row.get('of_limit', math.nan):10.2f}", flush=True)
            if args.out:
                args.out.write_text(json.dumps(results, indent=1))
    known = [r for r in ratios if not math.isnan(r)]
    if known:
        print(f"geometric mean of the ratios to the best peer: {math.exp(statistics.fmean(map(math.log, known))):.3f}")


if __name__ == "__main__":
    main()
