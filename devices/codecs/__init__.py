"""Codecs: bytes as devices send them -> samples under the device's keys. Pure, one a file."""
