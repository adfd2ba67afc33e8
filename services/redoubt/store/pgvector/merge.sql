-- Folding the delta into segments. Runs in one REPEATABLE READ transaction: what concurrent writers add is neither seen nor lost.

-- name: fold
WITH taken AS (
    DELETE FROM {schema}.delta RETURNING term, no, count, length, sign
), numbered AS (
    SELECT coalesce(max(segment), 0) + 1 AS segment FROM {schema}.posting
)
INSERT INTO {schema}.posting (term, segment, df, nos, impacts)
SELECT t.term, numbered.segment, sum(t.sign),
       coalesce(array_agg(t.no ORDER BY t.no) FILTER (WHERE t.sign = 1 AND c.no IS NOT NULL), '{}'),
       coalesce(array_agg((t.count * 2.2 / (t.count + 1.2 * (0.25 + 0.75 * t.length / %(average)s)))::real ORDER BY t.no)
                FILTER (WHERE t.sign = 1 AND c.no IS NOT NULL), '{}')
FROM taken AS t CROSS JOIN numbered LEFT JOIN {schema}.chunk AS c ON c.no = t.no
GROUP BY t.term, numbered.segment
HAVING sum(t.sign) <> 0 OR count(*) FILTER (WHERE t.sign = 1 AND c.no IS NOT NULL) > 0;

-- name: clear
DELETE FROM {schema}.posting;

-- name: forget
DELETE FROM {schema}.delta;

-- name: rebuild
INSERT INTO {schema}.posting (term, segment, df, nos, impacts)
SELECT u.term, 1, count(*), array_agg(l.no ORDER BY l.no),
       array_agg((u.count * 2.2 / (u.count + 1.2 * (0.25 + 0.75 * l.length / %(average)s)))::real ORDER BY l.no)
FROM {schema}.lexical AS l, unnest(l.terms, l.counts) AS u (term, count)
GROUP BY u.term;

-- name: tally
WITH taken AS (DELETE FROM {schema}.tally RETURNING acl_id, config, chunks, length)
INSERT INTO {schema}.tally (acl_id, config, chunks, length)
SELECT acl_id, config, sum(chunks), sum(length) FROM taken GROUP BY acl_id, config HAVING sum(chunks) <> 0;

-- name: facts
SELECT (SELECT coalesce(sum(length)::float8 / nullif(sum(chunks), 0), 1) FROM {schema}.tally),
       (SELECT count(DISTINCT segment) FROM {schema}.posting),
       EXISTS (SELECT FROM {schema}.delta),
       (SELECT coalesce(sum(chunks), 0) FROM {schema}.tally),
       (SELECT count(*) FROM {schema}.tally),
       EXISTS (SELECT FROM pg_indexes WHERE schemaname = '{schema}' AND indexname = 'vector_graph');

-- name: graph
CREATE INDEX vector_graph ON {schema}.vector USING hnsw (embedding halfvec_ip_ops) WITH (m = 16);
