"""Writes ONNX models without the onnx package: the messages of onnx.proto that a plain graph needs, and a graph builder.

Field numbers and types are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (IR version 8); what is left
out there are documentation, training and sub-graphs. Weights go to FILE.data beside FILE (external data), so that a
model may be larger than protobuf's 2 GB and onnxruntime reads each weight once.
"""
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: {field: (number, type)}; a type in [] is repeated, a capital one is a message
MESSAGES = {
    "StringStringEntryProto": {"key": (1, "string"), "value": (2, "string")},
    "TensorProto": {"dims": (1, ["int64"]), "data_type": (2, "int32"), "name": (8, "string"), "raw_data": (9, "bytes"),
                    "external_data": (13, ["StringStringEntryProto"]), "data_location": (14, "int32")},
    "AttributeProto": {"name": (1, "string"), "f": (2, "float"), "i": (3, "int64"), "s": (4, "bytes"), "ints": (8, ["int64"]),
                       "type": (20, "int32")},
    "NodeProto": {"input": (1, ["string"]), "output": (2, ["string"]), "name": (3, "string"), "op_type": (4, "string"),
                  "attribute": (5, ["AttributeProto"]), "domain": (7, "string")},
    "Dimension": {"dim_value": (1, "int64")},
    "TensorShapeProto": {"dim": (1, ["Dimension"])},
    "TensorType": {"elem_type": (1, "int32"), "shape": (2, "TensorShapeProto")},
    "TypeProto": {"tensor_type": (1, "TensorType")},
    "ValueInfoProto": {"name": (1, "string"), "type": (2, "TypeProto")},
    "GraphProto": {"node": (1, ["NodeProto"]), "name": (2, "string"), "initializer": (5, ["TensorProto"]),
                   "input": (11, ["ValueInfoProto"]), "output": (12, ["ValueInfoProto"])},
    "OperatorSetIdProto": {"domain": (1, "string"), "version": (2, "int64")},
    "ModelProto": {"ir_version": (1, "int64"), "producer_name": (2, "string"), "graph": (7, "GraphProto"),
                   "opset_import": (8, ["OperatorSetIdProto"])},
}
ELEMENT = {np.dtype("float32"): 1, np.dtype("int64"): 7}  # TensorProto.DataType
FLOAT, INT, INTS = 1, 2, 7  # AttributeProto.AttributeType
EXTERNAL = 1  # TensorProto.DataLocation
ALIGNMENT = 4096  # of external data, so that it may be mapped


def define_messages():
    """{name: message class}"""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="onnx-subset.proto", package="onnx", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = field_type.LABEL_REPEATED if isinstance(kind, list) else field_type.LABEL_OPTIONAL
            kind = kind[0] if isinstance(kind, list) else kind
            if kind in MESSAGES:
                message.field.add(name=field, number=number, label=label, type=field_type.TYPE_MESSAGE, type_name=f".onnx.{kind}")
            else:
                message.field.add(name=field, number=number, label=label, type=getattr(field_type, f"TYPE_{kind.upper()}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"onnx.{name}")) for name in MESSAGES}


onnx = define_messages()


class Graph:
    """Nodes in the order of their calls; every name of a value is a string. `save` ends it."""

    def __init__(self, name):
        self.model = onnx["ModelProto"](ir_version=8, producer_name="cambium-bench")
        self.model.opset_import.add(domain="", version=17)
        self.model.opset_import.add(domain="com.microsoft", version=1)
        self.graph = self.model.graph
        self.graph.name = name
        self.weights, self.count = {}, 0

    def input(self, name, shape, dtype):
        return self._declare(self.graph.input, name, shape, dtype)

    def output(self, name, shape, dtype):
        return self._declare(self.graph.output, name, shape, dtype)

    def constant(self, value, name=None):
        """A small tensor, kept in the model (shapes, scalars)."""
        tensor = self._tensor(np.asarray(value), name)
        tensor.raw_data = np.ascontiguousarray(value).tobytes()
        return tensor.name

    def weight(self, value, name=None):
        """A large tensor, kept in the file beside the model."""
        tensor = self._tensor(value, name)
        tensor.data_location = EXTERNAL
        self.weights[tensor.name] = (tensor, np.ascontiguousarray(value))
        return tensor.name

    def op(self, kind, *inputs, outputs=1, name=None, domain="", **attributes):
        """One node; returns the name of its output, or of all of them."""
        self.count += 1
        names = [name or f"{kind}_{self.count}"] if outputs == 1 else [f"{kind}_{self.count}_{i}" for i in range(outputs)]
        node = self.graph.node.add(op_type=kind, name=f"node_{self.count}", domain=domain, input=inputs, output=names)
        for key, value in attributes.items():
            if isinstance(value, float):
                node.attribute.add(name=key, type=FLOAT, f=value)
            elif isinstance(value, int):
                node.attribute.add(name=key, type=INT, i=value)
            else:
                node.attribute.add(name=key, type=INTS, ints=value)
        return names[0] if outputs == 1 else names

    def save(self, path):
        with open(f"{path}.data", "wb") as data:
            for tensor, value in self.weights.values():
                data.seek(-(-data.tell() // ALIGNMENT) * ALIGNMENT)
                for key, text in {"location": path.rsplit("/", 1)[-1] + ".data", "offset": data.tell(), "length": value.nbytes}.items():
                    tensor.external_data.add(key=key, value=str(text))
                data.write(value.data)
        with open(path, "wb") as f:
            f.write(self.model.SerializeToString())

    def _tensor(self, value, name):
        self.count += 1
        return self.graph.initializer.add(name=name or f"constant_{self.count}", dims=value.shape, data_type=ELEMENT[value.dtype])

    @staticmethod
    def _declare(values, name, shape, dtype):
        type_ = values.add(name=name).type.tensor_type
        type_.elem_type = ELEMENT[np.dtype(dtype)]
        for side in shape:
            type_.shape.dim.add(dim_value=side)
        return name
