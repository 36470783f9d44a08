"""Simulated devices: physics, firmware habits, faults, replay of measured files.

Speaks the vocabulary and encodes by its own code; never imports a decoder or a service room.
"""
