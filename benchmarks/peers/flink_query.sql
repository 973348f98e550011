-- CTR of each model and version in each minute, as Flink SQL: the same question that tidemark answers.
-- flink_job.py fills in the names in braces and runs one statement after another.

CREATE TABLE impressions (
    user_id STRING,
    item_id STRING,
    model_id STRING,
    model_version STRING,
    event_time BIGINT,
    shown_at AS TO_TIMESTAMP_LTZ(event_time, 3),
    WATERMARK FOR shown_at AS shown_at - INTERVAL '5' SECOND
) WITH (
    'connector' = 'kafka',
    'topic' = '{impressions}',
    'properties.bootstrap.servers' = '{bootstrap}',
    'scan.startup.mode' = 'earliest-offset',
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'json',
    'json.ignore-parse-errors' = 'true'
);

CREATE TABLE clicks (
    user_id STRING,
    item_id STRING,
    event_time BIGINT,
    clicked_at AS TO_TIMESTAMP_LTZ(event_time, 3),
    WATERMARK FOR clicked_at AS clicked_at - INTERVAL '5' SECOND
) WITH (
    'connector' = 'kafka',
    'topic' = '{clicks}',
    'properties.bootstrap.servers' = '{bootstrap}',
    'scan.startup.mode' = 'earliest-offset',
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'json',
    'json.ignore-parse-errors' = 'true'
);

CREATE TABLE windows (
    model_id STRING,
    model_version STRING,
    window_start TIMESTAMP(3),
    impressions BIGINT,
    clicks BIGINT
) WITH (
    'connector' = 'kafka',
    'topic' = '{windows}',
    'properties.bootstrap.servers' = '{bootstrap}',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601'
);

-- A broken record comes as a row of nulls where the format could not read it.
CREATE TEMPORARY VIEW shown AS
SELECT
    i.shown_at,
    i.model_id,
    COALESCE(i.model_version, '') AS model_version,
    CONCAT(i.user_id, '|', i.item_id) AS pair,
    c.user_id IS NOT NULL AS is_clicked
FROM (
    SELECT * FROM impressions
    WHERE event_time IS NOT NULL AND user_id IS NOT NULL AND item_id IS NOT NULL AND model_id IS NOT NULL
) AS i
LEFT JOIN (
    SELECT * FROM clicks
    WHERE event_time IS NOT NULL AND user_id IS NOT NULL AND item_id IS NOT NULL
) AS c
ON i.user_id = c.user_id
    AND i.item_id = c.item_id
    AND c.clicked_at BETWEEN i.shown_at AND i.shown_at + INTERVAL '10' MINUTE;

INSERT INTO windows
SELECT
    model_id,
    model_version,
    window_start,
    COUNT(DISTINCT pair),
    COUNT(DISTINCT pair) FILTER (WHERE is_clicked)
FROM TABLE(TUMBLE(TABLE shown, DESCRIPTOR(shown_at), INTERVAL '1' MINUTE))
GROUP BY model_id, model_version, window_start, window_end;
