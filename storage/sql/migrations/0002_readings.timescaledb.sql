-- Weeks as chunks: a span of days touches one or two of them, ten years are five hundred. The kept
-- roll-ups are thinner, so theirs are longer.

SELECT create_hypertable(
    'readings', by_range('observed_at', INTERVAL '7 days'), create_default_indexes => false
);
SELECT create_hypertable(
    'kept_1m', by_range('bucket', INTERVAL '28 days'), create_default_indexes => false
);
SELECT create_hypertable(
    'kept_15m', by_range('bucket', INTERVAL '364 days'), create_default_indexes => false
);
SELECT create_hypertable(
    'kept_1h', by_range('bucket', INTERVAL '364 days'), create_default_indexes => false
);
