-- Results of samples, every version of each. Rows are added, never changed but for told_at.

CREATE TABLE sample_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series_id integer NOT NULL REFERENCES series (id),
    sampled_at timestamptz NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    value double precision CHECK (value > '-infinity' AND value < 'infinity'),
    detection_limit double precision CHECK (detection_limit > '-infinity' AND detection_limit < 'infinity'),
    given text NOT NULL,
    method text NOT NULL,
    laboratory text NOT NULL,
    sampler text NOT NULL,
    reviewer text NOT NULL,
    report text NOT NULL,
    note text NOT NULL,
    recorded_at timestamptz NOT NULL,
    recorded_by text NOT NULL,
    told_at timestamptz,
    UNIQUE (series_id, sampled_at, version),
    CHECK (value IS NOT NULL OR detection_limit IS NOT NULL)
);
COMMENT ON TABLE sample_results IS
'What laboratories and hand-held meters found; a correction is one more version';
COMMENT ON COLUMN sample_results.value IS
'In the quantity''s unit; NULL where it is below the detection limit';
COMMENT ON COLUMN sample_results.detection_limit IS 'In the quantity''s unit; NULL where none was told';
COMMENT ON COLUMN sample_results.given IS 'The value as it was written, with its unit';
COMMENT ON COLUMN sample_results.reviewer IS 'Who answers for it; empty while it is no evidence, and no reading';
COMMENT ON COLUMN sample_results.told_at IS 'When the rules were told of it; NULL while they are not';

CREATE INDEX sample_results_untold ON sample_results (id) WHERE told_at IS NULL AND reviewer <> '';
COMMENT ON INDEX sample_results_untold IS 'Finds what the rules are still to be told';

CREATE INDEX sample_results_newest ON sample_results (sampled_at, id);
COMMENT ON INDEX sample_results_newest IS 'Lists by time, in pages';

-- The newest reviewed version of a result is the reading of its moment. Whoever adds results may correct
-- these readings, and no others: that is why this runs with its owner's rights.
CREATE FUNCTION put_sampled_readings(
    ids integer [], instants timestamptz [], received timestamptz, found double precision [], marks integer []
) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
    WITH put AS (
        INSERT INTO readings AS old (series_id, observed_at, received_at, value, quality)
        SELECT given.series_id, given.observed_at, received, given.value, given.quality
        FROM unnest(ids, instants, found, marks) AS given (series_id, observed_at, value, quality)
        INNER JOIN series ON series.id = given.series_id
        INNER JOIN devices ON devices.id = series.device_id
        WHERE devices.payload = 'laboratory'
        ON CONFLICT (series_id, observed_at) DO UPDATE
        SET received_at = excluded.received_at, value = excluded.value, quality = excluded.quality
        WHERE (old.value, old.quality) IS DISTINCT FROM (excluded.value, excluded.quality)
        RETURNING 1
    )
    SELECT count(*) FROM put
$$;
COMMENT ON FUNCTION put_sampled_readings IS
'Makes results the readings of their moments; returns how many are new or another than before';
REVOKE ALL ON FUNCTION put_sampled_readings FROM public;
