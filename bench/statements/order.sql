-- What PostgreSQL is asked for, as its own log shows it. Written by `bench statements`: do not edit.
\set turn :turn + 1
\set order 100000000000 + :turn * 1000 + :client_id
\set item random(1000, 1999)

-- orders
SELECT fingerprint, status, content_type, location, body FROM idempotency_keys WHERE key = ('order-' || :order::text)::text;

-- inventory
SELECT sku, name, unit_price_minor, currency, on_hand, reserved FROM items WHERE sku = ('SKU-' || :item::text)::text;

-- orders
START TRANSACTION;
INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until) VALUES (('00000000-0000-7000-8000-' || :order::text)::uuid, ('bench')::text, 'pending', ('[{"sku": "' || 'SKU-' || :item::text || '", "quantity": 1, "unit_price": {"minor": 1234, "currency": "EUR"}}]')::jsonb, ('1234')::int8, ('EUR')::text, now() + make_interval(secs => ('15')::float8));
INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES (('order-' || :order::text)::text, ('\xa9cbd8fac42d07cee9d03da2d8f7bc8c8972d8cc3e1cabf5459cf05a9c71a9a8')::bytea, ('00000000-0000-7000-8000-' || :order::text)::uuid) ON CONFLICT DO NOTHING;
COMMIT;

-- inventory
START TRANSACTION;
INSERT INTO reservations (order_id, status, expires_at) VALUES (('00000000-0000-7000-8000-' || :order::text)::uuid, 'reserved', now() + make_interval(secs => ('60')::float8)) ON CONFLICT DO NOTHING;
SELECT sku, on_hand - reserved FROM items WHERE sku = ANY(('{' || 'SKU-' || :item::text || '}')::_text) ORDER BY sku FOR UPDATE;
UPDATE items SET reserved = reserved + l.quantity FROM unnest(('{' || 'SKU-' || :item::text || '}')::_text::text[], ('{1}')::_int8::bigint[]) AS l (sku, quantity) WHERE items.sku = l.sku AND on_hand - reserved >= l.quantity;
INSERT INTO reservation_lines (order_id, sku, quantity) SELECT ('00000000-0000-7000-8000-' || :order::text)::uuid, sku, quantity FROM unnest(('{' || 'SKU-' || :item::text || '}')::_text::text[], ('{1}')::_int8::bigint[]) AS l (sku, quantity);
COMMIT;
START TRANSACTION;
SELECT status FROM reservations WHERE order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid FOR UPDATE;
SELECT sku, quantity FROM reservation_lines WHERE order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid ORDER BY sku;
SELECT 1 FROM items WHERE sku IN (SELECT sku FROM reservation_lines WHERE order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid) ORDER BY sku FOR UPDATE;
UPDATE items SET on_hand = on_hand - l.quantity, reserved = reserved - l.quantity FROM reservation_lines AS l WHERE l.order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid AND items.sku = l.sku;
UPDATE reservations SET status = ('confirmed')::text WHERE order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid;
COMMIT;

-- orders
START TRANSACTION;
UPDATE orders SET status = ('confirmed')::text, settled = true, updated_at = now() WHERE id = ('00000000-0000-7000-8000-' || :order::text)::uuid AND status = 'pending';
COMMIT;
SELECT id, customer, status, lines, total_minor, currency, to_char(created_at AT TIME ZONE 'utc', ('YYYY-MM-DD"T"HH24:' || 'MI:' || 'SS.MS"Z"')) AS created, to_char(updated_at AT TIME ZONE 'utc', ('YYYY-MM-DD"T"HH24:' || 'MI:' || 'SS.MS"Z"')) AS updated FROM orders WHERE id = ('00000000-0000-7000-8000-' || :order::text)::uuid;
UPDATE idempotency_keys SET status = ('201')::int4, content_type = ('application/json')::text, location = ('/v1/orders/' || '00000000-0000-7000-8000-' || :order::text)::text, body = ('{"id":"' || '00000000-0000-7000-8000-' || :order::text || '","customer":"bench","status":"confirmed","lines":[{"sku":"' || 'SKU-' || :item::text || '","quantity":1,"unit_price":{"minor":1234,"currency":"EUR"}}],"total":{"minor":1234,"currency":"EUR"},"created_at":"2026-11-26T16:45:34.420Z","updated_at":"2026-11-26T16:45:34.425Z"}')::text WHERE order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid AND status IS NULL;
SELECT fingerprint, status, content_type, location, body FROM idempotency_keys WHERE key = ('order-' || :order::text)::text;
