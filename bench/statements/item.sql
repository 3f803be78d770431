-- One item by its key, as a connection of one's own asks for it. inventory asks for the items of several requests at once.
\set item random(1000, 1999)

SELECT sku, name, unit_price_minor, currency, on_hand, reserved FROM items WHERE sku = ('SKU-' || :item::text)::text;
