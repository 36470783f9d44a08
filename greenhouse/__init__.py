"""The composition root: settings, wiring, the command line, the demo.

Sees every room and is seen by none; the only place that reads the environment or starts simulators.
"""
