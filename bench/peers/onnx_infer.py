"""Inference of a merged CLIP in onnxruntime, f32: a worker of interleave.mjs as step.py is, with the same number.

usage: python onnx_infer.py MODEL FOLDER --write [--batch 8] [--form contrib|standard]
       python onnx_infer.py MODEL FOLDER [--batch 8] [--tower image|text|both] [--threads 2] [--no-spin] [--serve]

--write makes FOLDER/image.onnx and FOLDER/text.onnx (onnx_clip.py has the forms), compares them with float64 in PyTorch on the
first input set and fails above 1e-5 of the largest feature. Otherwise one tower runs, or one after the other, with all graph
optimisations, and PyTorch is not loaded, so that the memory is onnxruntime's. The batch must be that of the models.
"""
import argparse
import json
import os
import sys

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

from worker import rss_peak_mb, time_or_serve

KINDS = {"image": "pixels", "text": "ids"}  # the input of each tower
TOLERANCE = 1e-5


class Inference:
    """One tower or one after the other, on the input sets in turn."""

    def __init__(self, args, towers, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(not args.no_spin)))
        files = [os.path.join(args.folder, f"{tower}.onnx") for tower in towers]
        self.sessions = [onnxruntime.InferenceSession(f, options, providers=["CPUExecutionProvider"]) for f in files]
        inputs = load_file(os.path.join(args.model, "bench-inputs.safetensors"))
        count = sum(name.startswith("pixels.") for name in inputs)
        self.inputs = [[{KINDS[t]: inputs[f"{KINDS[t]}.{i}"][: args.batch]} for t in towers] for i in range(count)]
        self.version, self.steps = onnxruntime.__version__, 0

    def features(self):
        return [session.run(None, feed)[0] for session, feed in zip(self.sessions, self.inputs[self.steps % len(self.inputs)])]

    def step(self):
        features = self.features()
        self.steps += 1
        return float(sum(np.square(f).mean() for f in features))


def write_and_compare(args):
    """Writes the models. Largest error of each tower relative to its largest feature, against float64."""
    import torch

    from clip_model import Clip
    from onnx_clip import write
    from step import load_inputs

    write(args.model, args.folder, args.batch, args.form)
    clip = Clip(args.model, torch.float64, trainable=False)
    pixels, ids, _ = load_inputs(args.model, torch.float64, args.batch)[0]
    with torch.no_grad():
        expected = [clip.encode_image(pixels).numpy(), clip.encode_text(ids).numpy()]
    got = Inference(args, list(KINDS), args.threads).features()
    return {t: float(np.abs(g - e).max() / np.abs(e).max()) for t, g, e in zip(KINDS, got, expected)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--form", choices=["contrib", "standard"], default="contrib")
    parser.add_argument("--tower", choices=["image", "text", "both"], default="image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-spin", action="store_true", help="threads sleep between kernels")
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    if args.write:
        errors = write_and_compare(args)
        print(json.dumps({"form": args.form, "batch": args.batch, "relative_error": errors}))
        return sys.exit(max(errors.values()) > TOLERANCE and f"features: expected an error of at most {TOLERANCE}, got {errors}")
    worker = Inference(args, list(KINDS) if args.tower == "both" else [args.tower], args.threads)
    about = {"name": f"onnxruntime f32 infer, {args.tower}", "batch": args.batch, "versions": {"onnxruntime": worker.version},
             "threads": args.threads, "spin": not args.no_spin, "rss_loaded_mb": rss_peak_mb()}
    time_or_serve(worker, about, args.serve)


if __name__ == "__main__":
    main()
