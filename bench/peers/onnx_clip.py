"""Towers of a CLIPModel folder as ONNX models, in f32, merged (no adapters); onnx_infer.py runs them.

FOLDER/image.onnx: pixels [B, 3, S, S] -> image_features [B, P]; FOLDER/text.onnx: ids [B, N] -> text_features [B, P]; features
before normalisation. Batch size and length are fixed, which leaves the optimiser the most to know. Forms:
  standard  operators of ONNX alone, as exporters write them: q, k, v apart, x sigmoid(1.702 x) as three nodes
  contrib   what onnxruntime.transformers makes of that (its program needs the onnx package): Attention with packed q, k, v,
            QuickGelu, SkipLayerNormalization
"""
import json
import os

import numpy as np

from onnx_model import Graph

CONTRIB = "com.microsoft"


class Tower:
    """Adds the nodes of one tower to a graph. weights: Hugging Face names without the tower's prefix."""

    def __init__(self, graph, weights, config, batch, tokens, causal, form):
        self.graph, self.weights, self.form, self.causal = graph, weights, form, causal
        self.batch, self.tokens, self.width, self.heads = batch, tokens, config["hidden_size"], config["num_attention_heads"]
        self.eps, self.layers = config["layer_norm_eps"], config["num_hidden_layers"]
        if form == "standard":
            self.split = graph.constant(np.array([batch, tokens, self.heads, self.width // self.heads]))
            self.joined = graph.constant(np.array([batch, tokens, self.width]))
            self.scale = graph.constant(np.float32((self.width // self.heads) ** -0.5))
            self.slope = graph.constant(np.float32(1.702))
            if causal:
                self.mask = graph.weight(np.triu(np.full((1, 1, tokens, tokens), -1e30, np.float32), 1))

    def affine(self, name):
        return [self.graph.weight(self.weights[f"{name}.{kind}"]) for kind in ("weight", "bias")]

    def norm(self, x, name):
        return self.graph.op("LayerNormalization", x, *self.affine(name), axis=-1, epsilon=self.eps)

    def add_norm(self, x, z, name):
        """x + z and its norm: one node of onnxruntime, or two of ONNX."""
        if self.form == "standard":
            total = self.graph.op("Add", x, z)
            return total, self.norm(total, name)
        normed, _, _, total = self.graph.op("SkipLayerNormalization", x, z, *self.affine(name), outputs=4, domain=CONTRIB, epsilon=self.eps)
        return total, normed

    def linear(self, x, name):
        """x W' + b with W' stored transposed, as exporters write it; onnxruntime makes it a Gemm and packs the constant."""
        product = self.graph.op("MatMul", x, self.graph.weight(self.weights[f"{name}.weight"].T))
        return self.graph.op("Add", product, self.graph.weight(self.weights[f"{name}.bias"]))

    def attention(self, x, layer):
        g, parts = self.graph, [f"{layer}.self_attn.{n}_proj" for n in "qkv"]
        if self.form == "contrib":
            weight, bias = (np.concatenate([self.weights[f"{p}.{kind}"] for p in parts]) for kind in ("weight", "bias"))
            causal = int(self.causal)
            return g.op("Attention", x, g.weight(weight.T), g.weight(bias), domain=CONTRIB, num_heads=self.heads, unidirectional=causal)
        q, k, v = (g.op("Reshape", self.linear(x, p), self.split) for p in parts)
        q, v = (g.op("Transpose", y, perm=[0, 2, 1, 3]) for y in (q, v))
        scores = g.op("MatMul", g.op("Mul", q, self.scale), g.op("Transpose", k, perm=[0, 2, 3, 1]))
        if self.causal:
            scores = g.op("Add", scores, self.mask)
        z = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
        return g.op("Reshape", g.op("Transpose", z, perm=[0, 2, 1, 3]), self.joined)

    def activation(self, x):
        if self.form == "contrib":
            return self.graph.op("QuickGelu", x, domain=CONTRIB, alpha=1.702)
        return self.graph.op("Mul", x, self.graph.op("Sigmoid", self.graph.op("Mul", x, self.slope)))

    def blocks(self, x):
        normed = self.norm(x, "encoder.layers.0.layer_norm1")
        for i in range(self.layers):
            layer = f"encoder.layers.{i}"
            z = self.linear(self.attention(normed, layer), f"{layer}.self_attn.out_proj")
            x, normed = self.add_norm(x, z, f"{layer}.layer_norm2")
            z = self.linear(self.activation(self.linear(normed, f"{layer}.mlp.fc1")), f"{layer}.mlp.fc2")
            if i + 1 < self.layers:
                x, normed = self.add_norm(x, z, f"encoder.layers.{i + 1}.layer_norm1")
        return self.graph.op("Add", x, z)


def image_tower(weights, config, projection, batch, form):
    c, g = config["vision_config"], Graph("image")
    side = c["image_size"] // c["patch_size"]
    tower = Tower(g, weights, c, batch, side * side + 1, False, form)
    pixels = g.input("pixels", [batch, 3, c["image_size"], c["image_size"]], np.float32)
    x = g.op("Conv", pixels, g.weight(weights["embeddings.patch_embedding.weight"]), strides=[c["patch_size"]] * 2)
    x = g.op("Transpose", g.op("Reshape", x, g.constant(np.array([batch, tower.width, side * side]))), perm=[0, 2, 1])
    token = np.broadcast_to(weights["embeddings.class_embedding"], (batch, 1, tower.width))
    x = g.op("Add", g.op("Concat", g.weight(token), x, axis=1), g.weight(weights["embeddings.position_embedding.weight"]))
    x = tower.blocks(tower.norm(x, "pre_layrnorm"))
    x = tower.norm(g.op("Gather", x, g.constant(np.int64(0)), axis=1), "post_layernorm")
    g.op("MatMul", x, g.weight(projection.T), name=g.output("image_features", [batch, len(projection)], np.float32))
    return g


def text_tower(weights, config, projection, batch, form, tokens=None):
    c, g = config["text_config"], Graph("text")
    tokens = tokens or c["max_position_embeddings"]
    tower = Tower(g, weights, c, batch, tokens, True, form)
    ids = g.input("ids", [batch, tokens], np.int64)
    x = g.op("Gather", g.weight(weights["embeddings.token_embedding.weight"]), ids)
    x = tower.blocks(g.op("Add", x, g.weight(weights["embeddings.position_embedding.weight"][:tokens])))
    x = g.op("GatherND", x, g.op("ArgMax", ids, axis=1, keepdims=1), batch_dims=1)
    g.op("MatMul", tower.norm(x, "final_layer_norm"), g.weight(projection.T), name=g.output("text_features", [batch, len(projection)], np.float32))
    return g


TOWERS = {"image": ("vision", "visual", image_tower), "text": ("text", "text", text_tower)}


def write(model, folder, batch, form):
    """Both models of the CLIPModel folder `model`."""
    from clip_model import read_tensors

    with open(os.path.join(model, "config.json")) as f:
        config = json.load(f)
    os.makedirs(folder, exist_ok=True)
    file = os.path.join(model, "model.safetensors")
    for name, (tower, projection, build) in TOWERS.items():
        weights = {k: v.numpy() for k, v in read_tensors(file, f"{tower}_model.").items()}
        out = read_tensors(file, f"{projection}_projection.weight")[""].numpy()
        build(weights, config, out, batch, form).save(os.path.join(folder, f"{name}.onnx"))
