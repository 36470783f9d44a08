-- What people commanded devices to do, stage by stage: rows are added, never changed.

CREATE TABLE commands (
    id text NOT NULL,
    outcome text NOT NULL,
    device text NOT NULL,
    unit smallint NOT NULL,
    key text NOT NULL,
    quantity_unit text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    asked_at timestamptz NOT NULL,
    ended_at timestamptz,
    new double precision NOT NULL,
    old double precision,
    read_back double precision,
    text text NOT NULL,
    -- A stage that is recorded twice, because the first answer was lost, is one row.
    PRIMARY KEY (id, outcome),
    CHECK ((outcome = 'begun') = (ended_at IS NULL))
);
COMMENT ON TABLE commands IS 'Commands to devices: one row a stage, begun and how it ended';
COMMENT ON COLUMN commands.outcome IS
'begun, then one of done, failed (the old value stands), unsure (asked, and nobody knows)';
COMMENT ON COLUMN commands.device IS 'The device''s code; the record outlives the device';
COMMENT ON COLUMN commands.unit IS 'The unit id on its bus that was written to';
COMMENT ON COLUMN commands.quantity_unit IS 'The unit of new, old and read_back';
COMMENT ON COLUMN commands.actor IS 'Who gave the command, as the client said';
COMMENT ON COLUMN commands.new IS 'What was to be written, after rounding to the registers';
COMMENT ON COLUMN commands.old IS 'What the device held before; NULL where it is not known';
COMMENT ON COLUMN commands.read_back IS 'What it held afterwards; NULL where it is not known';

CREATE UNIQUE INDEX commands_end ON commands (id) WHERE outcome <> 'begun';
COMMENT ON INDEX commands_end IS 'A command ends once; finds its end for the list';

CREATE INDEX commands_newest ON commands (asked_at, id) WHERE outcome = 'begun';
COMMENT ON INDEX commands_newest IS 'Lists by time, in pages';
