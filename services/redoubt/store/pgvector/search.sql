-- Both legs of a hybrid search in one call, permitted chunks only, both raw scores for every candidate.
--
-- Lexical leg: terms in the order of their rarity bring candidates until enough postings were read; the best of them by
-- partial score are then scored exactly from the forward index. Dense leg: the HNSW graph, or exactly when few chunks are
-- permitted. STABLE: every statement sees the caller's snapshot, so a merge in between changes nothing.

CREATE FUNCTION {schema}.search(
    question text, embedding halfvec, readers text[], candidates int, exact_below int, posting_budget int
) RETURNS TABLE (
    id uuid, ordinal int, document_id uuid, version int, title text, heading text[], text text,
    start_char int, end_char int, page int, cosine double precision, bm25 double precision, idf_share double precision,
    question_idf double precision
)
LANGUAGE plpgsql STABLE
SET hnsw.ef_search = 100
SET hnsw.iterative_scan = relaxed_order
SET hnsw.max_scan_tuples = 40000
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    k1 CONSTANT double precision := 1.2;
    b  CONSTANT double precision := 0.75;
    acls      int[];
    collection double precision;
    permitted bigint;
    average   double precision;
    keys      bigint[];
    weights   double precision[];   -- idf · frequency in the question
    idfs      double precision[];
    dfs       bigint[];
    total_idf double precision;
    chosen    int := 0;
    read      bigint := 0;
    kept      int;
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

    -- The question under each configuration that the generation holds; rarest terms first.
    SELECT array_agg(q.term ORDER BY q.df, q.term), array_agg(q.idf * q.count ORDER BY q.df, q.term),
           array_agg(q.idf ORDER BY q.df, q.term), array_agg(q.df ORDER BY q.df, q.term), sum(q.idf)
    INTO keys, weights, idfs, dfs, total_idf
    FROM (
        SELECT t.term, t.count, d.df, ln(1 + (collection - d.df + 0.5) / (d.df + 0.5)) AS idf
        FROM (SELECT DISTINCT config FROM {schema}.tally GROUP BY config HAVING sum(chunks) > 0) AS present,
             LATERAL {schema}.terms(present.config, question) AS t,
             LATERAL (
                 SELECT greatest(coalesce((SELECT sum(p.df) FROM {schema}.posting AS p WHERE p.term = t.term), 0)
                      + coalesce((SELECT sum(e.sign) FROM {schema}.delta AS e WHERE e.term = t.term), 0), 0) AS df
             ) AS d
    ) AS q;
    total_idf := coalesce(total_idf, 0);

    IF keys IS NOT NULL THEN
        FOR i IN 1 .. cardinality(keys) LOOP
            EXIT WHEN read >= posting_budget AND chosen > 0;
            read := read + dfs[i];
            chosen := i;
        END LOOP;
        IF permitted <= exact_below THEN
            WITH mine AS MATERIALIZED (
                SELECT c.no FROM {schema}.chunk AS c WHERE c.acl_id = ANY (acls)
            ), partial AS (
                SELECT u.no, t.weight * u.impact AS score
                FROM unnest(keys, weights) AS t (term, weight)
                JOIN {schema}.posting AS p USING (term), unnest(p.nos, p.impacts) AS u (no, impact)
                UNION ALL
                SELECT e.no, t.weight * e.count * (k1 + 1) / (e.count + k1 * (1 - b + b * e.length / average))
                FROM unnest(keys, weights) AS t (term, weight)
                JOIN {schema}.delta AS e USING (term) WHERE e.sign = 1
            )
            SELECT array_agg(ranked.no) INTO lexical_nos FROM (
                SELECT partial.no FROM partial JOIN mine USING (no)
                GROUP BY partial.no ORDER BY sum(partial.score) DESC, partial.no LIMIT 4 * candidates
            ) AS ranked;
        ELSE
            -- Some of the best will not be permitted: look at as many more as the permitted share asks for.
            kept := least(20000, ceil(6 * candidates * collection / permitted));
            WITH partial AS (
                SELECT u.no, t.weight * u.impact AS score
                FROM unnest(keys[:chosen], weights[:chosen]) AS t (term, weight)
                JOIN {schema}.posting AS p USING (term), unnest(p.nos, p.impacts) AS u (no, impact)
                UNION ALL
                SELECT e.no, t.weight * e.count * (k1 + 1) / (e.count + k1 * (1 - b + b * e.length / average))
                FROM unnest(keys[:chosen], weights[:chosen]) AS t (term, weight)
                JOIN {schema}.delta AS e USING (term) WHERE e.sign = 1
            ), ranked AS MATERIALIZED (
                SELECT partial.no, sum(partial.score) AS score FROM partial
                GROUP BY partial.no ORDER BY 2 DESC, 1 LIMIT kept
            )
            SELECT array_agg(r.no) INTO lexical_nos FROM (
                SELECT ranked.no FROM ranked,
                    LATERAL (SELECT c.acl_id FROM {schema}.chunk AS c WHERE c.no = ranked.no OFFSET 0) AS c
                WHERE c.acl_id = ANY (acls) ORDER BY ranked.score DESC, ranked.no LIMIT 6 * candidates
            ) AS r;
        END IF;
    END IF;

    IF permitted <= exact_below THEN
        WITH mine AS MATERIALIZED (
            SELECT c.no FROM {schema}.chunk AS c WHERE c.acl_id = ANY (acls)
        )
        SELECT array_agg(d.no) INTO dense_nos FROM (
            SELECT v.no FROM mine JOIN {schema}.vector AS v USING (no)
            ORDER BY (v.embedding <#> search.embedding) + 0, v.no LIMIT candidates
        ) AS d;
    ELSE
        SELECT array_agg(d.no) INTO dense_nos FROM (
            SELECT v.no FROM {schema}.vector AS v,
                LATERAL (SELECT c.acl_id FROM {schema}.chunk AS c WHERE c.no = v.no OFFSET 0) AS c
            WHERE c.acl_id = ANY (acls)
            ORDER BY v.embedding <#> search.embedding LIMIT candidates
        ) AS d;
    END IF;

    RETURN QUERY
    WITH scored AS MATERIALIZED (
        SELECT n.no, coalesce(s.bm25, 0) AS bm25, coalesce(s.found, 0) AS found, n.dense
        FROM (
            SELECT u.no, bool_or(u.dense) AS dense FROM (
                SELECT unnest(lexical_nos) AS no, false AS dense UNION ALL SELECT unnest(dense_nos), true
            ) AS u GROUP BY u.no
        ) AS n
        LEFT JOIN LATERAL (
            SELECT sum(t.weight * h.count * (k1 + 1) / (h.count + k1 * (1 - b + b * l.length / average))) AS bm25,
                   sum(t.idf) AS found
            FROM {schema}.lexical AS l, unnest(keys, weights, idfs) AS t (term, weight, idf),
                 LATERAL (SELECT l.counts[array_position(l.terms, t.term)] AS count) AS h
            WHERE l.no = n.no AND h.count IS NOT NULL
        ) AS s ON true
    ), best AS (
        SELECT * FROM scored WHERE scored.dense
        UNION
        (SELECT * FROM scored WHERE scored.bm25 > 0 ORDER BY scored.bm25 DESC, scored.no LIMIT candidates)
    )
    SELECT c.id, c.ordinal, c.document_id, c.version, c.title, c.heading, c.text, c.start_char, c.end_char, c.page,
           -(v.embedding <#> search.embedding), best.bm25,
           CASE WHEN total_idf > 0 THEN best.found / total_idf ELSE 0 END, total_idf
    FROM best JOIN {schema}.chunk AS c USING (no) JOIN {schema}.vector AS v USING (no)
    WHERE c.acl_id = ANY (acls);
END $$;
GRANT EXECUTE ON FUNCTION {schema}.search TO redoubt_gateway;
GRANT EXECUTE ON FUNCTION {schema}.terms TO redoubt_gateway;
