"""The vocabulary: quantities, units, sites, devices, series, readings, quality, codecs.

Raw bytes and files go in, columns of readings and checked site files come out.
Pure: no I/O, no clock; imports nothing of ours.
"""
