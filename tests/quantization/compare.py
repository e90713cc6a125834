#!/usr/bin/env python3
"""Compares `edgec quantize` with ONNX Runtime's `quantize_static` on the same data.

    compare.py MODELS --edgec target/release/edgec [--json FILE] [--only NAME …]

MODELS is a folder with one folder per model: `model.onnx`, and either `calib_x.npy`, `test_x.npy`, `test_y.npy`
(labelled), or `set_<i>/input_<k>.npy` (samples that are both calibrated and measured with). Every quantized model runs
in ONNX Runtime, so that only the choice of scales differs. Of both quantizers all methods are tried; the table
shows each, and the best. Needs onnx, onnxruntime, numpy; see requirements.txt of the fixtures.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

LABELLED = ["digits_cnn", "hand_keypoint", "hand_point_history", "skl_digits_mlp"]
SAMPLED = ["mlperf_ad01_f32", "mlperf_dscnn_kws_f32", "mlperf_resnet8_f32", "mlperf_vww96_f32"]

OURS = {
    "auto": [],
    "min-max": ["--method", "min-max"],
    "min-max, biases corrected": ["--method", "min-max", "--bias-correction"],
    "percentile": ["--method", "percentile"],
    "mse": ["--method", "mse"],
    "mse, biases corrected": ["--method", "mse", "--bias-correction"],
    "symmetric": ["--activations", "symmetric"],
}

THEIRS = {
    "min-max": dict(calibrate_method=CalibrationMethod.MinMax),
    "entropy": dict(calibrate_method=CalibrationMethod.Entropy),
    "percentile": dict(calibrate_method=CalibrationMethod.Percentile),
}


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Case:
    """A model with its data."""

    def __init__(self, folder):
        self.folder, self.name, self.model = folder, folder.name, folder / "model.onnx"
        inputs = session(self.model).get_inputs()
        self.inputs = [i.name for i in inputs]
        self.labelled = (folder / "test_x.npy").exists()
        if self.labelled:
            # Inputs beyond the first are settings: those of the recorded samples.
            extra = {n: np.load(folder / "set_0" / f"input_{k}.npy") for k, n in enumerate(self.inputs) if k}
            self.bind = [f"{n}={folder / 'set_0' / f'input_{k}.npy'}" for k, n in enumerate(self.inputs) if k]
            feed = lambda rows: [{self.inputs[0]: r[None], **extra} for r in rows]
            self.calibration = feed(np.load(folder / "calib_x.npy"))
            self.test = feed(np.load(folder / "test_x.npy"))
            self.labels = np.load(folder / "test_y.npy")
            self.data = folder / "calib_x.npy"
        else:
            sets = sorted(folder.glob("set_*"))
            load = lambda s: {n: np.load(s / f"input_{k}.npy") for k, n in enumerate(self.inputs)}
            self.calibration = self.test = [load(s) for s in sets]
            self.bind, self.data = [], folder
        self.float = self.run(self.model)

    def run(self, path):
        s = session(path)
        own = {i.name for i in s.get_inputs()}
        return [s.run(None, {n: v for n, v in f.items() if n in own}) for f in self.test]

    def score(self, path):
        """Accuracy in percent where there are labels, else the least SQNR of any output in dB."""
        results = self.run(path)
        if self.labelled:
            first = np.array([r[0].ravel() for r in results])
            classes = first[:, 0] if first.shape[1] == 1 else first.argmax(1)
            return 100 * float(np.mean(classes == self.labels))
        outputs = []
        for k in range(len(self.float[0])):
            f = np.concatenate([r[k].ravel() for r in self.float]).astype(np.float64)
            q = np.concatenate([r[k].ravel() for r in results]).astype(np.float64)
            outputs.append(10 * np.log10((f * f).sum() / max(((f - q) ** 2).sum(), 1e-300)))
        return float(min(outputs))


class Reader(CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def prepare(case, scratch):
    """The model as `quantize_static` is advised to be given it, and raised to where scales per channel exist."""
    model = onnx.load(case.model)
    own = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    prepared = scratch / "raised.onnx"
    try:
        onnx.save(model if own >= 13 else onnx.version_converter.convert_version(model, 13), prepared)
    except Exception:
        prepared = case.model
    try:
        quant_pre_process(str(prepared), str(scratch / "prepared.onnx"), skip_symbolic_shape=True)
        return scratch / "prepared.onnx"
    except Exception:
        return prepared


def theirs(case, options, scratch):
    """The best score of both forms of activations, per channel; where that fails, one scale, or products only."""
    prepared, out, best, failure = prepare(case, scratch), scratch / "theirs.onnx", None, None
    products = dict(op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu"])
    for activation in (QuantType.QUInt8, QuantType.QInt8):
        for more in (dict(per_channel=True), dict(per_channel=False), dict(per_channel=True, **products)):
            try:
                quantize_static(
                    str(prepared), str(out), Reader(case.calibration), quant_format=QuantFormat.QDQ,
                    activation_type=activation, weight_type=QuantType.QInt8, **more, **options,
                )
                score = case.score(out)
            except Exception as e:
                failure = e
                continue
            best = score if best is None else max(best, score)
            break
    if best is None:
        print(f"{case.name}: quantize_static: {failure}", file=sys.stderr)
    return best


def ours(case, edgec, options, scratch):
    out = scratch / "ours.onnx"
    bind = [a for b in case.bind for a in ("--bind", b)]
    command = [edgec, "quantize", case.model, "--calibrate", case.data, "-o", out, *bind, *options]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        print(f"{case.name}: edgec: {done.stderr}", file=sys.stderr)
        return None
    onnx.checker.check_model(onnx.load(out))
    return case.score(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--edgec", required=True)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    rows, show = {}, lambda v: "—" if v is None else f"{v:.2f}"
    for name in args.only or LABELLED + SAMPLED:
        case = Case(args.models / name)
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            row = {
                "unit": "%" if case.labelled else "dB",
                "float": case.score(case.model) if case.labelled else None,
                "edgec": {m: ours(case, args.edgec, o, scratch) for m, o in OURS.items()},
                "onnxruntime": {m: theirs(case, o, scratch) for m, o in THEIRS.items()},
            }
        rows[name] = row
        print(f"{name} [{row['unit']}] float {show(row['float'])}")
        for who in ("edgec", "onnxruntime"):
            print(f"  {who}: " + ", ".join(f"{m} {show(v)}" for m, v in row[who].items()), flush=True)
    best = lambda r, who: max((v for v in r[who].values() if v is not None), default=None)
    print("\n| model | float | edgec, default | edgec, best | ONNX Runtime, best |\n|---|---:|---:|---:|---:|")
    for name, r in rows.items():
        default = r["edgec"]["auto"]
        cells = [r["float"], default, best(r, "edgec"), best(r, "onnxruntime")]
        text = [show(c) + (" " + r["unit"] if c is not None else "") for c in cells]
        print(f"| `{name}` | " + " | ".join(text) + " |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    worse = [n for n, r in rows.items() if (best(r, "edgec") or -1) < (best(r, "onnxruntime") or -1)]
    if worse:
        sys.exit(f"worse than ONNX Runtime: {', '.join(worse)}")


if __name__ == "__main__":
    main()
