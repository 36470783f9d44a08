-- name: reader
-- Read everything that is kept.
GRANT USAGE ON SCHEMA public TO {user};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user};

-- name: writer
-- Add what is measured, commanded and alerted; change nothing of it but what an alert stands at.
GRANT INSERT ON readings, changed_spans, dead_letters, gaps, commands TO {user};
GRANT INSERT ON alerts, alert_groups, alert_entries, notices, silences, pack_changes TO {user};
GRANT UPDATE ON alerts, alert_groups, silences TO {user};
GRANT INSERT ON calibrations, quality_windows TO {user};
GRANT UPDATE ON calibration_state TO {user};
GRANT UPDATE (replayed_at, replay_wanted) ON dead_letters TO {user};
GRANT UPDATE (ended_at) ON gaps TO {user};
GRANT INSERT, UPDATE, DELETE ON unclaimed TO {user};
GRANT INSERT ON sample_results TO {user};
GRANT UPDATE (told_at) ON sample_results TO {user};
GRANT EXECUTE ON FUNCTION put_sampled_readings TO {user};
