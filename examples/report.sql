-- A monthly report from the sink's tables: psql --file report.sql ADDRESS, as the role foreshock_reader.
-- One row for each month and level: alerts that opened, how many of them are open, how many rose to a higher level, how
-- long the others were open (median, days), and what is at stake in those that are open.
SELECT
    date_trunc('month', opened_at)::date AS month,
    highest_level AS level,
    count(*) AS opened,
    count(*) FILTER (WHERE cleared_at IS NULL) AS still_open,
    count(*) FILTER (WHERE escalated_at IS NOT NULL) AS escalated,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM cleared_at - opened_at) / 86400)
        FILTER (WHERE cleared_at IS NOT NULL) AS median_days_open,
    sum(expected_loss) FILTER (WHERE cleared_at IS NULL) AS expected_loss_open
FROM alerts
GROUP BY 1, 2
ORDER BY 1, 2;
