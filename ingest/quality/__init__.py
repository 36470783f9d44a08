"""Quality of readings: what a batch is held against before anybody hears or stores it.

Decoded batches go in, the same batches with calibrated values and more bits of quality come out.
Pure cores over columns of all series at once; imports devices, NumPy, and nothing that waits.
"""
