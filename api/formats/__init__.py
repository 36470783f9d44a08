"""Answers on the wire: JSON columns, CSV, Arrow and Parquet. Columns in, bytes out; pure."""
