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
    lease_until timestamptz NOT NULL,
    attempts    int         NOT NULL DEFAULT 0 -- in vain: the worker waits longer each time
);

-- The only legal moves: pending to any other, confirmed to cancelled.
CREATE FUNCTION refuse_illegal_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order % cannot move from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON orders FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND OLD.status <> 'pending' AND NOT (OLD.status = 'confirmed' AND NEW.status = 'cancelled'))
    EXECUTE FUNCTION refuse_illegal_move();

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
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
