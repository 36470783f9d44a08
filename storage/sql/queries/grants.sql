-- name: reader
-- Read everything that is kept.
GRANT USAGE ON SCHEMA public TO {user};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user};

-- name: writer
-- Add readings, dead letters, gaps and commands; change nothing that was measured or commanded.
GRANT INSERT ON readings, dead_letters, gaps, commands TO {user};
GRANT UPDATE (replayed_at, replay_wanted) ON dead_letters TO {user};
GRANT UPDATE (ended_at) ON gaps TO {user};
