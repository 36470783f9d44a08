-- The calibration book: which line a series was on since when, and when something was being calibrated,
-- maintained or out of use. Rows are added, never changed; a later one overrules an earlier one. What is
-- entered about the past is carried out on stored readings, piece by piece (corrections).

CREATE TABLE calibration_state (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    revision bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE calibration_state IS 'One row: how far the calibration book has come';
COMMENT ON COLUMN calibration_state.revision IS 'Rises by one with every entry; readers poll it';
COMMENT ON COLUMN calibration_state.applied IS
'Stored readings follow the entries up to this revision; those after it are being carried out';
INSERT INTO calibration_state DEFAULT VALUES;

CREATE TABLE calibrations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision bigint NOT NULL,
    token text NOT NULL UNIQUE,
    series_id integer NOT NULL REFERENCES series (id),
    valid_from timestamptz NOT NULL,
    gain double precision NOT NULL CHECK (gain > 0 AND gain < 'infinity'),
    shift double precision NOT NULL CHECK (shift > '-infinity' AND shift < 'infinity'),
    points jsonb NOT NULL,
    method text NOT NULL,
    reference text NOT NULL,
    note text NOT NULL,
    actor text NOT NULL,
    due_at timestamptz,
    withdrawn boolean NOT NULL,
    entered_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE calibrations IS
'From valid_from until the next one: value = raw * gain + shift, in the quantity''s unit. Of several rows '
'of one series and valid_from the one of the highest revision counts';
COMMENT ON COLUMN calibrations.token IS 'Made by who enters it, so that a row that is sent twice is one';
COMMENT ON COLUMN calibrations.points IS 'Pairs [raw, true] that the line was computed from, if any';
COMMENT ON COLUMN calibrations.reference IS 'What it was compared with: a solution, a certificate';
COMMENT ON COLUMN calibrations.actor IS 'Who calibrated, as they said';
COMMENT ON COLUMN calibrations.due_at IS 'When the next one is due; NULL where nobody said';
COMMENT ON COLUMN calibrations.withdrawn IS 'True: none holds from valid_from on; the one before goes on';

CREATE TABLE quality_windows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision bigint NOT NULL,
    token text NOT NULL UNIQUE,
    scope text NOT NULL CHECK (scope IN ('series', 'device', 'site')),
    code text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('calibration', 'maintenance', 'stopped')),
    starting timestamptz NOT NULL,
    ending timestamptz NOT NULL CHECK (ending > starting),
    actor text NOT NULL,
    reason text NOT NULL,
    replaces bigint REFERENCES quality_windows (id),
    withdrawn boolean NOT NULL,
    entered_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE quality_windows IS 'Spans [starting, ending) in which what they are over was not measuring';
COMMENT ON COLUMN quality_windows.code IS 'Of the series, the device, or the site with all below it';
COMMENT ON COLUMN quality_windows.replaces IS 'An earlier window that counts no more';
COMMENT ON COLUMN quality_windows.withdrawn IS 'True: this row only ends the one that it replaces';

CREATE TABLE corrections (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision bigint NOT NULL,
    series_id integer NOT NULL,
    starting timestamptz NOT NULL,
    ending timestamptz NOT NULL,
    old_gain double precision NOT NULL,
    old_shift double precision NOT NULL,
    new_gain double precision NOT NULL,
    new_shift double precision NOT NULL,
    added_bits integer NOT NULL,
    removed_bits integer NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    done_to timestamptz NOT NULL,
    readings bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    UNIQUE (revision, series_id, starting)
);
COMMENT ON TABLE corrections IS
'What an entry about the past does to stored readings of a series in [starting, ending): each from its old '
'line to its new one, and other bits of quality. A log of what was corrected, and the work that is left';
COMMENT ON COLUMN corrections.revision IS 'Of the calibration book that asked for it';
COMMENT ON COLUMN corrections.low IS 'Physically possible values: the bit of these is set anew';
COMMENT ON COLUMN corrections.done_to IS
'Readings before this are done. It moves in the transaction that corrects them, so each is done once';
COMMENT ON COLUMN corrections.readings IS 'How many were corrected so far';

CREATE INDEX corrections_open ON corrections (id) WHERE finished_at IS NULL;
COMMENT ON INDEX corrections_open IS 'Finds the work that is left';

CREATE FUNCTION on_line(
    value double precision, old_gain double precision, old_shift double precision,
    new_gain double precision, new_shift double precision
) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT
        CASE
            WHEN abs(value) > 1e300 OR (old_gain = new_gain AND old_shift = new_shift) THEN value
            ELSE ((value - old_shift) / old_gain) * new_gain + new_shift
        END
$$;
COMMENT ON FUNCTION on_line IS 'A stored value, taken from its old line of calibration to a new one';
