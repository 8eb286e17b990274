-- The first answers to calls with an Idempotency-Key, for 24 hours. A row without a body belongs to
-- a call that has changed something and not answered yet.
CREATE TABLE idempotent_answers (
    principal        TEXT NOT NULL,
    method           TEXT NOT NULL,
    path             TEXT NOT NULL,
    idempotency_key  TEXT NOT NULL,
    digest           TEXT NOT NULL,
    status           BIGINT,
    version          BIGINT,
    location         TEXT,
    narrowing        BOOLEAN,
    epoch            BIGINT,
    seq              BIGINT,
    body             TEXT,
    -- Secrets of the body, encrypted, until they are handed out or too old.
    sealed           TEXT,
    sealed_until_ms  BIGINT,
    created_ms       BIGINT NOT NULL,
    PRIMARY KEY (principal, method, path, idempotency_key)
);
CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_ms);
CREATE INDEX idempotent_answers_sealed ON idempotent_answers (sealed_until_ms)
    WHERE sealed IS NOT NULL;
