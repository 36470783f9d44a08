-- Alerts, what people did about them, and what was told. Whoever judges writes all of it from memory
-- and may write it again: every row has a name that a second run finds again.

CREATE TABLE alert_groups (
    id text PRIMARY KEY,
    label text NOT NULL,
    place text NOT NULL,
    opened_at timestamptz NOT NULL,
    members text [] NOT NULL,
    told_severity smallint NOT NULL,
    notices integer NOT NULL,
    told_at timestamptz [] NOT NULL,
    told_severities smallint [] NOT NULL,
    is_flapping boolean NOT NULL,
    at_rest boolean NOT NULL
);
COMMENT ON TABLE alert_groups IS 'Alerts of one cause in one house: what is told, is told of a group';
COMMENT ON COLUMN alert_groups.id IS '32 hex digits made of label, place and opening';
COMMENT ON COLUMN alert_groups.label IS 'The rule, or the word by which rules are grouped';
COMMENT ON COLUMN alert_groups.place IS 'Code of the house, or of the site where there is none';
COMMENT ON COLUMN alert_groups.opened_at IS 'Measured start of the first alert in it';
COMMENT ON COLUMN alert_groups.members IS 'Ids of the alerts since it opened';
COMMENT ON COLUMN alert_groups.told_severity IS 'What people were last told; 0 nothing, or all over';
COMMENT ON COLUMN alert_groups.notices IS 'How many notices it has had';
COMMENT ON COLUMN alert_groups.told_at IS 'When people were told in the last minutes';
COMMENT ON COLUMN alert_groups.told_severities IS 'With which severity, beside told_at';
COMMENT ON COLUMN alert_groups.is_flapping IS 'Enough was told for now';
COMMENT ON COLUMN alert_groups.at_rest IS 'Nothing stands and nothing is to be told; it stays so';

CREATE INDEX alert_groups_newest ON alert_groups (opened_at, id);
COMMENT ON INDEX alert_groups_newest IS 'Lists by time, in pages';
CREATE INDEX alert_groups_awake ON alert_groups (id) WHERE NOT at_rest;
COMMENT ON INDEX alert_groups_awake IS 'Finds what a start takes up again';

CREATE TABLE alerts (
    id text PRIMARY KEY,
    rule text NOT NULL,
    rule_version integer NOT NULL,
    subject text NOT NULL,
    site text NOT NULL,
    phase text NOT NULL CHECK (
        phase IN ('pending', 'firing', 'held', 'resolved', 'retracted', 'withdrawn')
    ),
    severity smallint NOT NULL,
    worst smallint NOT NULL,
    started_at timestamptz NOT NULL,
    fired_at timestamptz NOT NULL,
    resolved_at timestamptz,
    last_at timestamptz NOT NULL,
    value double precision,
    peak double precision,
    unobserved_us bigint NOT NULL,
    steps jsonb NOT NULL,
    acknowledged_by text,
    acknowledged_at timestamptz,
    acknowledged_note text,
    assigned_to text NOT NULL,
    shelved_by text,
    shelved_until timestamptz,
    shelved_reason text,
    shelved_severity smallint,
    closed_by text,
    closed_at timestamptz,
    closed_note text,
    comments jsonb NOT NULL,
    replaces text NOT NULL,
    group_id text NOT NULL,
    is_pageable boolean NOT NULL,
    entries integer NOT NULL
);
COMMENT ON TABLE alerts IS 'One row an episode of one rule on one subject, as it now stands';
COMMENT ON COLUMN alerts.id IS
'32 hex digits made of rule, subject and measured start: late data and restarts find it again';
COMMENT ON COLUMN alerts.rule IS 'pack.rule';
COMMENT ON COLUMN alerts.rule_version IS 'Version of the pack by which it was judged';
COMMENT ON COLUMN alerts.subject IS 'What it is about: series:…, device:… or site:…';
COMMENT ON COLUMN alerts.site IS 'Code of the site where that is';
COMMENT ON COLUMN alerts.phase IS
'pending -> firing <-> held (no data) -> resolved; retracted: late data show that it never was;
withdrawn: its rule or subject is gone';
COMMENT ON COLUMN alerts.severity IS '1 info, 2 warning, 3 critical: now, or before it was over';
COMMENT ON COLUMN alerts.worst IS 'The highest severity there was';
COMMENT ON COLUMN alerts.started_at IS 'Measured: first reading beyond the limit';
COMMENT ON COLUMN alerts.fired_at IS 'Measured: it had lasted for long enough';
COMMENT ON COLUMN alerts.resolved_at IS 'Measured: it was over; NULL while it is open';
COMMENT ON COLUMN alerts.last_at IS 'Measured: the newest of its steps';
COMMENT ON COLUMN alerts.value IS 'What was read at its newest step';
COMMENT ON COLUMN alerts.peak IS 'The worst value up to its newest step';
COMMENT ON COLUMN alerts.unobserved_us IS 'How much of it lies in gaps between readings, microseconds';
COMMENT ON COLUMN alerts.steps IS 'All that happened to the episode, in measured microseconds';
COMMENT ON COLUMN alerts.acknowledged_by IS 'Who has seen it; NULL while nobody has';
COMMENT ON COLUMN alerts.acknowledged_at IS 'When, by the clock of the service';
COMMENT ON COLUMN alerts.acknowledged_note IS 'What they said';
COMMENT ON COLUMN alerts.assigned_to IS 'Whose it is; empty for nobody''s';
COMMENT ON COLUMN alerts.shelved_by IS 'Who put it aside; NULL where nobody did';
COMMENT ON COLUMN alerts.shelved_until IS 'Until when nobody is told of it';
COMMENT ON COLUMN alerts.shelved_reason IS 'Why';
COMMENT ON COLUMN alerts.shelved_severity IS 'When it becomes worse than this, it is told again';
COMMENT ON COLUMN alerts.closed_by IS 'Who put it in the ledger; NULL where nobody did';
COMMENT ON COLUMN alerts.closed_at IS 'When, by the clock of the service';
COMMENT ON COLUMN alerts.closed_note IS 'The closing note';
COMMENT ON COLUMN alerts.comments IS 'by, at_us and note of each comment; also lines of its history';
COMMENT ON COLUMN alerts.replaces IS 'Id of the retracted alert that it takes the place of, or empty';
COMMENT ON COLUMN alerts.group_id IS 'alert_groups.id, or empty where it was never told with others';
COMMENT ON COLUMN alerts.is_pageable IS 'False for what was found in old data: nobody is woken';
COMMENT ON COLUMN alerts.entries IS
'How many lines its history has. An older state never takes the place of a newer one';

CREATE INDEX alerts_newest ON alerts (started_at, id);
COMMENT ON INDEX alerts_newest IS 'Lists by time, in pages';
CREATE INDEX alerts_open ON alerts (started_at, id) WHERE phase IN ('firing', 'held');
COMMENT ON INDEX alerts_open IS 'What stands now: the first page people see, and what a start takes up';
CREATE INDEX alerts_subject ON alerts (rule, subject, started_at);
COMMENT ON INDEX alerts_subject IS 'What is known of one rule on one subject when old data come in';
CREATE INDEX alerts_group ON alerts (group_id);
COMMENT ON INDEX alerts_group IS 'The alerts of a group';

CREATE TABLE alert_entries (
    alert_id text NOT NULL,
    number integer NOT NULL,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    actor text NOT NULL,
    note text NOT NULL,
    severity smallint NOT NULL,
    value double precision,
    peak double precision,
    duration_us bigint NOT NULL,
    coverage double precision NOT NULL,
    revised boolean NOT NULL,
    -- A line that is written twice is one row.
    PRIMARY KEY (alert_id, number)
);
COMMENT ON TABLE alert_entries IS 'The history of alerts: lines are added, never changed';
COMMENT ON COLUMN alert_entries.alert_id IS 'alerts.id';
COMMENT ON COLUMN alert_entries.number IS 'Counts from 1 within the alert';
COMMENT ON COLUMN alert_entries.kind IS 'A phase, what changed, or what somebody did';
COMMENT ON COLUMN alert_entries.at IS 'Measured time of what readings did, else the clock';
COMMENT ON COLUMN alert_entries.recorded_at IS 'When it was known, by the clock of the service';
COMMENT ON COLUMN alert_entries.actor IS 'Who did it; empty for readings';
COMMENT ON COLUMN alert_entries.note IS 'What they said';
COMMENT ON COLUMN alert_entries.severity IS 'Of the alert then, as the columns after it';
COMMENT ON COLUMN alert_entries.value IS 'What was read';
COMMENT ON COLUMN alert_entries.peak IS 'The worst value so far';
COMMENT ON COLUMN alert_entries.duration_us IS 'How long it had lasted, microseconds';
COMMENT ON COLUMN alert_entries.coverage IS 'Share of that time that was observed, 0 to 1';
COMMENT ON COLUMN alert_entries.revised IS 'Late data changed what had been said before';

CREATE TABLE notices (
    group_id text NOT NULL,
    number integer NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    told text NOT NULL CHECK (told IN ('firing', 'worse', 'over')),
    severity smallint NOT NULL,
    at timestamptz NOT NULL,
    alerts text [] NOT NULL,
    open_count integer NOT NULL,
    tell text [] NOT NULL,
    PRIMARY KEY (group_id, number)
);
COMMENT ON TABLE notices IS 'What is to be told, in order: whoever delivers reads on from a position';
COMMENT ON COLUMN notices.group_id IS 'alert_groups.id; with the number it names a notice for ever';
COMMENT ON COLUMN notices.number IS 'Counts from 1 within the group';
COMMENT ON COLUMN notices.position IS 'Rises with every notice that is kept; there may be gaps';
COMMENT ON COLUMN notices.told IS 'What it says: firing, worse than told before, over';
COMMENT ON COLUMN notices.severity IS 'The worst of what it tells';
COMMENT ON COLUMN notices.at IS 'When it was decided, by the clock of the service';
COMMENT ON COLUMN notices.alerts IS 'Ids of the alerts it is about, the worst first';
COMMENT ON COLUMN notices.open_count IS 'How many are open in the group, told or held back';
COMMENT ON COLUMN notices.tell IS 'Who is told: words of the rules, such as operator, bureau';

CREATE TABLE silences (
    id text PRIMARY KEY,
    author text NOT NULL,
    reason text NOT NULL,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    rules text [] NOT NULL,
    sites text [] NOT NULL,
    subjects text [] NOT NULL,
    worst smallint NOT NULL,
    ended_by text NOT NULL,
    ended_note text NOT NULL
);
COMMENT ON TABLE silences IS 'Nobody is told of what a silence matches; alerts go on meanwhile';
COMMENT ON COLUMN silences.id IS 'Given by whoever takes the wish in';
COMMENT ON COLUMN silences.author IS 'Who wanted it';
COMMENT ON COLUMN silences.reason IS 'Why';
COMMENT ON COLUMN silences.from_at IS 'From when';
COMMENT ON COLUMN silences.until_at IS 'Until when; moved up where somebody ends it early';
COMMENT ON COLUMN silences.rules IS 'Codes with * for any letters; empty for all';
COMMENT ON COLUMN silences.sites IS 'Sites with all below them; empty for all';
COMMENT ON COLUMN silences.subjects IS 'Subjects; empty for all';
COMMENT ON COLUMN silences.worst IS 'The highest severity that it covers';
COMMENT ON COLUMN silences.ended_by IS 'Who ended it before its time, or empty';
COMMENT ON COLUMN silences.ended_note IS 'What they said';

CREATE INDEX silences_newest ON silences (from_at, id);
COMMENT ON INDEX silences_newest IS 'Lists by time';

CREATE TABLE pack_changes (
    id text PRIMARY KEY,
    pack text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL,
    before text,
    after text
);
COMMENT ON TABLE pack_changes IS 'Who changed the rules of a base; the rules themselves lie in files';
COMMENT ON COLUMN pack_changes.id IS '32 hex digits made of all the others: twice is one row';
COMMENT ON COLUMN pack_changes.pack IS 'Name of the pack';
COMMENT ON COLUMN pack_changes.actor IS 'Who changed it';
COMMENT ON COLUMN pack_changes.reason IS 'Why, in their words';
COMMENT ON COLUMN pack_changes.changed_at IS 'When';
COMMENT ON COLUMN pack_changes.before IS 'Its whole text before; NULL where there was none';
COMMENT ON COLUMN pack_changes.after IS 'Its whole text after; NULL where it was deleted';

CREATE INDEX pack_changes_newest ON pack_changes (pack, changed_at);
COMMENT ON INDEX pack_changes_newest IS 'The changes of one pack, by time';
