-- Both legs of a hybrid search in one call, permitted chunks only, both raw scores for every candidate.
--
-- Lexical leg: the question's terms, rarest first, bring candidates until enough postings were read; the best of them
-- by partial score are then scored exactly from the forward index, with all terms and the present statistics. While
-- fewer postings than that match, nothing is left out and the leg is exact.
-- Dense leg: the HNSW graph, iterating until enough permitted chunks were met: the fewer are permitted, the longer. So
-- few are compared one by one, which is exact: measured, one step in the graph costs as much as 25 comparisons, and it
-- takes candidates / (permitted / collection) steps; `exact_weight` is 25 times the usual number of candidates.
-- STABLE: every statement in here sees the caller's snapshot, so that a write or a merge in between changes nothing.

CREATE FUNCTION {schema}.search(
    question text, embedding halfvec, readers text[], candidates int, exact_weight int, posting_budget int
) RETURNS TABLE (
    id uuid, ordinal int, document_id uuid, version int, title text, heading text[], text text,
    start_char int, end_char int, page int, cosine double precision, bm25 double precision, idf_share double precision,
    question_idf double precision
)
LANGUAGE plpgsql STABLE
SET hnsw.ef_search = 160
SET hnsw.iterative_scan = relaxed_order
SET hnsw.max_scan_tuples = 40000
SET jit = off
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
DECLARE
    k1 CONSTANT double precision := 1.2;
    b  CONSTANT double precision := 0.75;
    acls      int[];
    collection double precision;    -- chunks in the generation
    permitted bigint;               -- of them, those that the readers may read
    few       boolean;              -- so few that comparing them all costs less than looking for them in the graph
    mine      int[];                -- these few
    average   double precision;     -- terms a chunk
    configs   text[];
    keys      bigint[];             -- the question's terms, rarest first; those below run beside
    languages text[];
    weights   double precision[];   -- idf · frequency in the question
    idfs      double precision[];
    dfs       bigint[];
    masses    double precision[];   -- idf of all terms, beside `configs`
    chosen    int := 0;
    read      bigint := 0;
    kept      double precision;     -- chunks that are scored exactly, for each that is returned
    lexical_nos int[] := '{}';
    dense_nos   int[] := '{}';
BEGIN
    SELECT array_agg(acl.id) INTO acls FROM public.acl WHERE acl.groups && readers;
    IF acls IS NULL THEN
        RETURN;
    END IF;
    SELECT sum(chunks), sum(length)::double precision / greatest(sum(chunks), 1),
           coalesce(sum(chunks) FILTER (WHERE acl_id = ANY (acls)), 0)
    INTO collection, average, permitted
    FROM {schema}.tally;
    IF permitted = 0 THEN
        RETURN;
    END IF;
    average := greatest(average, 1);
    few := permitted::double precision ^ 2 <= exact_weight * collection;
    IF few THEN
        SELECT array_agg(c.no) INTO mine FROM {schema}.chunk AS c WHERE c.acl_id = ANY (acls);
    END IF;
    SELECT array_agg(present.config) INTO configs
    FROM (SELECT config FROM {schema}.tally GROUP BY config HAVING sum(chunks) > 0) AS present;

    SELECT array_agg(q.term ORDER BY q.df, q.term), array_agg(q.config ORDER BY q.df, q.term),
           array_agg(q.idf * q.count ORDER BY q.df, q.term), array_agg(q.idf ORDER BY q.df, q.term),
           array_agg(q.df ORDER BY q.df, q.term)
    INTO keys, languages, weights, idfs, dfs
    FROM (
        SELECT t.term, c.config, t.count, d.df, ln(1 + (collection - d.df + 0.5) / (d.df + 0.5)) AS idf
        FROM unnest(configs) AS c (config), LATERAL {schema}.terms(c.config, question) AS t,
             LATERAL (
                 SELECT greatest(coalesce(sum(p.df), 0), 0) AS df FROM {schema}.posting AS p WHERE p.term = t.term
             ) AS d
    ) AS q;
    SELECT array_agg((SELECT coalesce(sum(q.idf), 0) FROM unnest(languages, idfs) AS q (config, idf)
                      WHERE q.config = c.config) ORDER BY c.at)
    INTO masses
    FROM unnest(configs) WITH ORDINALITY AS c (config, at);

    IF keys IS NOT NULL THEN
        FOR i IN 1 .. cardinality(keys) LOOP
            EXIT WHEN read > 0 AND read + dfs[i] > posting_budget AND NOT few;
            read := read + dfs[i];
            chosen := i;
        END LOOP;
        kept := CASE WHEN chosen = cardinality(keys) THEN 1.2 ELSE 4 END;
        IF few THEN
            WITH permitted_one AS MATERIALIZED (
                SELECT c.no FROM {schema}.chunk AS c WHERE c.acl_id = ANY (acls)
            )
            SELECT array_agg(ranked.no) INTO lexical_nos FROM (
                SELECT partial.no
                FROM (
                    SELECT unnest(p.nos) AS no, unnest(p.impacts) * t.weight AS score
                    FROM unnest(keys, weights) AS t (term, weight) JOIN {schema}.posting AS p USING (term)
                ) AS partial
                JOIN permitted_one USING (no)
                GROUP BY partial.no ORDER BY sum(partial.score) DESC, partial.no LIMIT 20 + ceil(kept * candidates)
            ) AS ranked;
        ELSE
            -- Some of the best will not be permitted, or no longer there: look at as many more as their share asks for.
            WITH ranked AS MATERIALIZED (
                SELECT partial.no, sum(partial.score) AS score
                FROM (
                    SELECT unnest(p.nos) AS no, unnest(p.impacts) * t.weight AS score
                    FROM unnest(keys[:chosen], weights[:chosen]) AS t (term, weight)
                    JOIN {schema}.posting AS p USING (term)
                ) AS partial
                GROUP BY partial.no ORDER BY 2 DESC, 1
                LIMIT 100 + ceil(1.2 * kept * candidates * collection / permitted)
            )
            SELECT array_agg(r.no) INTO lexical_nos FROM (
                SELECT ranked.no
                FROM ranked, LATERAL (SELECT c.acl_id FROM {schema}.chunk AS c WHERE c.no = ranked.no OFFSET 0) AS c
                WHERE c.acl_id = ANY (acls) ORDER BY ranked.score DESC, ranked.no LIMIT 20 + ceil(kept * candidates)
            ) AS r;
        END IF;
    END IF;

    IF few THEN
        SELECT array_agg(d.no) INTO dense_nos FROM (
            SELECT v.no
            FROM {schema}.vector AS v WHERE v.no = ANY (mine)
            ORDER BY (v.embedding <#> search.embedding) + 0, v.no LIMIT candidates
        ) AS d;
    ELSE
        SELECT array_agg(d.no) INTO dense_nos FROM (
            SELECT v.no
            FROM {schema}.vector AS v,
                 LATERAL (SELECT c.acl_id FROM {schema}.chunk AS c WHERE c.no = v.no OFFSET 0) AS c
            WHERE c.acl_id = ANY (acls)
            ORDER BY v.embedding <#> search.embedding LIMIT candidates
        ) AS d;
    END IF;

    RETURN QUERY
    WITH met AS (
        SELECT u.no, bool_or(u.dense) AS dense FROM (
            SELECT unnest(lexical_nos) AS no, false AS dense UNION ALL SELECT unnest(dense_nos), true
        ) AS u GROUP BY u.no
    ), scored AS MATERIALIZED (
        SELECT met.no, met.dense, l.config, coalesce(s.bm25, 0) AS bm25, coalesce(s.found, 0) AS found
        FROM met JOIN {schema}.lexical AS l USING (no),
             LATERAL (
                 SELECT sum(h.weight * h.count * (k1 + 1) / (h.count + k1 * (1 - b + b * l.length / average))) AS bm25,
                        sum(h.idf) AS found
                 FROM (
                     SELECT t.weight, t.idf, l.counts[array_position(l.terms, t.term)] AS count
                     FROM unnest(keys, weights, idfs) AS t (term, weight, idf)
                 ) AS h
                 WHERE h.count IS NOT NULL
             ) AS s
    ), best AS (
        SELECT scored.no FROM scored WHERE scored.dense
        UNION
        (SELECT scored.no FROM scored WHERE scored.bm25 > 0 ORDER BY scored.bm25 DESC, scored.no LIMIT candidates)
    )
    SELECT p.id, p.ordinal, c.document_id, p.version, p.title, p.heading, p.text, p.start_char, p.end_char, p.page,
           -(v.embedding <#> search.embedding), scored.bm25,
           coalesce(scored.found / nullif(masses[array_position(configs, scored.config)], 0), 0),
           (SELECT max(m) FROM unnest(masses) AS m)
    FROM best
    JOIN scored USING (no)
    JOIN {schema}.chunk AS c USING (no)
    JOIN {schema}.passage AS p USING (no)
    JOIN {schema}.vector AS v USING (no)
    WHERE c.acl_id = ANY (acls);
END $$;
GRANT EXECUTE ON FUNCTION {schema}.search TO redoubt_gateway;
GRANT EXECUTE ON FUNCTION {schema}.terms TO redoubt_gateway;
