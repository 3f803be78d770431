-- What PostgreSQL is asked for, as its own log shows it. Written by `bench statements`: do not edit.
\set item random(1000, 1999)

-- inventory
SELECT sku, name, unit_price_minor, currency, on_hand, reserved FROM items WHERE sku = ('SKU-' || :item::text)::text;
