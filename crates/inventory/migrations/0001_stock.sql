-- Items, what arrived, and what is held for orders.
-- The law: for every item, received + returned = on_hand + confirmed out, and 0 <= reserved <= on_hand.
CREATE TABLE items (
    sku              text COLLATE "C" PRIMARY KEY,
    name             text   NOT NULL,
    unit_price_minor bigint NOT NULL CHECK (unit_price_minor >= 0),
    currency         text   NOT NULL,
    on_hand          bigint NOT NULL DEFAULT 0 CHECK (on_hand >= 0),
    reserved         bigint NOT NULL DEFAULT 0,
    CHECK (0 <= reserved AND reserved <= on_hand)
);

CREATE TABLE receipts (
    idempotency_key text COLLATE "C" PRIMARY KEY,
    sku             text        NOT NULL REFERENCES items,
    quantity        bigint      NOT NULL CHECK (quantity > 0),
    received_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE reservations (
    order_id   uuid PRIMARY KEY,
    status     text        NOT NULL CHECK (status IN ('reserved', 'confirmed', 'released', 'returned', 'expired')),
    expires_at timestamptz NOT NULL
);
CREATE INDEX reservations_due ON reservations (expires_at) WHERE status = 'reserved';

CREATE TABLE reservation_lines (
    order_id uuid   NOT NULL REFERENCES reservations,
    sku      text COLLATE "C" NOT NULL REFERENCES items,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);
