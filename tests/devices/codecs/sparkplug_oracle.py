"""Protobuf's own library, told our .proto text: what it reads is what a message says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import devices.codecs

_FILE = Path(devices.codecs.__file__).with_name("sparkplug_b.proto")
_KINDS = descriptor_pb2.FieldDescriptorProto.Type
_LABELS = descriptor_pb2.FieldDescriptorProto.Label
_FIELD = re.compile(r"(?:(optional|repeated)\s+)?(\w+)\s+(\w+)\s*=\s*(\d+);")


def file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Read the .proto text; anything in it that this reader does not know is an error."""
    text = re.sub(r"//.*", "", _FILE.read_text("utf-8"))
    file = descriptor_pb2.FileDescriptorProto(name=_FILE.name, syntax="proto2")
    rest, package = re.subn(r"^\s*syntax = \"proto2\";\s*package ([\w.]+);", "", text)
    assert package == 1
    (file.package,) = re.findall(r"package ([\w.]+);", text)
    rest = re.sub(r"message (\w+) \{((?:[^{}]|\{[^{}]*\})*)\}", lambda m: _message(file, m), rest)
    assert not rest.strip(), rest
    return file


def _message(file: descriptor_pb2.FileDescriptorProto, found: re.Match[str]) -> str:
    message = file.message_type.add(name=found[1])
    body = re.sub(r"oneof (\w+) \{([^{}]*)\}", lambda m: _oneof(file, message, m), found[2])
    _fields(file, message, body, None)
    return ""


def _oneof(file, message, found: re.Match[str]) -> str:
    message.oneof_decl.add(name=found[1])
    _fields(file, message, found[2], len(message.oneof_decl) - 1)
    return ""


def _fields(file, message, body: str, oneof: int | None) -> None:
    for label, kind, name, number in _FIELD.findall(body):
        assert bool(label) == (oneof is None), name
        field = message.field.add(name=name, number=int(number))
        field.label = _LABELS.Value(f"LABEL_{(label or 'optional').upper()}")
        scalar = f"TYPE_{kind.upper()}"
        if scalar in _KINDS.keys():  # noqa: SIM118 - an enum wrapper is no container
            field.type = _KINDS.Value(scalar)
        else:
            field.type = _KINDS.Value("TYPE_MESSAGE")
            field.type_name = f".{file.package}.{kind}"
        if oneof is not None:
            field.oneof_index = oneof
    assert not _FIELD.sub("", body).strip(), body


@cache
def _classes() -> dict[str, type[Any]]:
    file = file_descriptor()
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {}
    for message in file.message_type:
        descriptor = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        found[message.name] = message_factory.GetMessageClass(descriptor)
    return found


def oracle(name: str = "Payload") -> type[Any]:
    """Return the library's class of message *name*."""
    return _classes()[name]
