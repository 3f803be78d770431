-- What PostgreSQL is asked for, as its own log shows it. Written by `bench statements`: do not edit.
\set turn :turn + 1
\set order 100000000000 + :turn * 1000 + :client_id
\set item random(1000, 1999)

-- inventory
SELECT sku, name, unit_price_minor, currency, on_hand, reserved FROM items WHERE sku = ANY(('{' || 'SKU-' || :item::text || '}')::_text);

-- orders
SELECT key, fingerprint, status, content_type, location, body, order_id, caller FROM idempotency_keys WHERE key = ANY(('{"local
' || 'order-' || :order::text || '",' || 'order-' || :order::text || '}')::_text);
WITH new AS (INSERT INTO idempotency_keys (key, fingerprint, order_id, caller) SELECT ('order-' || :order::text)::text, ('\xa9cbd8fac42d07cee9d03da2d8f7bc8c8972d8cc3e1cabf5459cf05a9c71a9a8')::bytea, ('00000000-0000-7000-8000-' || :order::text)::uuid, ('local')::text::text ON CONFLICT DO NOTHING RETURNING order_id) INSERT INTO orders (id, customer, status, lines, total_minor, currency, lease_until) SELECT order_id, ('bench')::text, 'pending', ('[{"sku": "' || 'SKU-' || :item::text || '", "quantity": 1, "unit_price": {"minor": 1234, "currency": "EUR"}}]')::jsonb, ('1234')::int8, ('EUR')::text, now() + make_interval(secs => ('15')::float8) FROM new RETURNING to_char(created_at AT TIME ZONE 'utc', ('YYYY-MM-DD"T"HH24:' || 'MI:' || 'SS.MS"Z"'));

-- inventory
SELECT was, is_same, available FROM reserve_stock(('00000000-0000-7000-8000-' || :order::text)::uuid, ('{' || 'SKU-' || :item::text || '}')::_text, ('{1}')::_int8, ('60')::int4);
SELECT was, skus, quantities FROM move_stock(('00000000-0000-7000-8000-' || :order::text)::uuid, ('reserved')::text, ('confirmed')::text, ('-1')::int4, ('-1')::int4);

-- orders
WITH moved AS (UPDATE orders SET status = ('confirmed')::text, settled = ('confirmed')::text = 'confirmed', updated_at = now() WHERE id = ('00000000-0000-7000-8000-' || :order::text)::uuid AND status = 'pending' RETURNING id), kept AS (UPDATE idempotency_keys SET status = ('201')::int4, content_type = ('application/json')::text, location = ('/v1/orders/' || '00000000-0000-7000-8000-' || :order::text)::text, body = concat(('{"id":"' || '00000000-0000-7000-8000-' || :order::text || '","customer":"bench","status":"confirmed","lines":[{"sku":"' || 'SKU-' || :item::text || '","quantity":1,"unit_price":{"minor":1234,"currency":"EUR"}}],"total":{"minor":1234,"currency":"EUR"},"created_at":"2026-12-01T13:15:26.291Z","updated_at":"')::text::text, to_char(now() AT TIME ZONE 'utc', ('YYYY-MM-DD"T"HH24:' || 'MI:' || 'SS.MS"Z"')) || ('"}')::text::text) FROM moved WHERE order_id = ('00000000-0000-7000-8000-' || :order::text)::uuid AND status IS NULL RETURNING body) SELECT body FROM moved LEFT JOIN kept ON true;
