-- The columnstore takes a twentieth of the room, but a late reading that falls into it costs the
-- unpacking of its neighbours. So a chunk moves there only when no device may still send for it: the
-- oldest reading a device may bring is 30 days old unless its site file says otherwise.

ALTER TABLE readings SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'series_id',
    timescaledb.orderby = 'observed_at'
);
CALL add_columnstore_policy('readings', after => INTERVAL '35 days');
