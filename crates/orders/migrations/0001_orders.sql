-- Orders, and the answers that a repeated Idempotency-Key gets.
CREATE TABLE orders (
    id          uuid PRIMARY KEY, -- version 7: ordered by time
    customer    text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('pending', 'confirmed', 'rejected', 'cancelled')),
    lines       jsonb       NOT NULL,
    total_minor bigint      NOT NULL CHECK (total_minor >= 0),
    currency    text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    -- Is there nothing left to do at inventory? Until then whoever holds the lease does it.
    settled     boolean     NOT NULL DEFAULT false,
    lease_until timestamptz NOT NULL
);
CREATE INDEX orders_unsettled ON orders (lease_until) WHERE NOT settled;

CREATE TABLE idempotency_keys (
    key          text COLLATE "C" PRIMARY KEY,
    fingerprint  bytea       NOT NULL, -- SHA-256 of the request
    order_id     uuid        NOT NULL REFERENCES orders,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- The answer, once there is one.
    status       int,
    content_type text,
    location     text,
    body         text
);
CREATE UNIQUE INDEX idempotency_keys_order ON idempotency_keys (order_id);
