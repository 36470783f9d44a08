"""Rules, the NumPy engine, alert states and delivery.

Batches and ``now`` come in, alerts come out; pure, its channels are its only shells.  May import
devices only.
"""
