-- Moves of stock, each a single call: one round trip and one commit, and no row is locked while a message is under way.
-- Locks are taken in one order: the reservation's row, then the items' rows one by one in the order of the SKUs. So
-- confirm, release and the sweeper race for the row, exactly one wins, and no two transactions wait for each other.
-- Each statement in here sees all that was committed before it (READ COMMITTED): what is read behind a lock is so.

-- Holds stock for an order, all lines or none; an expired reservation is held anew. The SKUs must come in their order.
CREATE FUNCTION reserve_stock(
    id uuid, wanted text[], quantities bigint[], seconds int,
    OUT was text,           -- the status of the reservation that was there already, else null
    OUT is_same boolean,    -- were its lines these?
    OUT available bigint[]  -- when some item lacks: how many there are of each, null for unknown ones; nothing is held
) LANGUAGE plpgsql AS $$
DECLARE
    free       bigint;
    is_lacking boolean := false;
BEGIN
    INSERT INTO reservations (order_id, status, expires_at)
        VALUES (id, 'reserved', now() + make_interval(secs => seconds)) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT status INTO STRICT was FROM reservations WHERE order_id = id FOR UPDATE;
        SELECT array_agg(sku ORDER BY sku) = wanted AND array_agg(quantity ORDER BY sku) = quantities
            INTO is_same FROM reservation_lines WHERE order_id = id;
        IF was <> 'expired' THEN
            RETURN;
        END IF;
    END IF;
    FOR line IN 1 .. cardinality(wanted) LOOP
        SELECT on_hand - reserved INTO free FROM items WHERE sku = wanted[line] FOR UPDATE;
        available[line] := free;
        is_lacking := is_lacking OR free IS NULL OR free < quantities[line];
    END LOOP;
    IF is_lacking THEN
        IF was IS NULL THEN
            DELETE FROM reservations WHERE order_id = id;
        END IF;
        RETURN;
    END IF;
    available := NULL;
    IF was = 'expired' THEN
        UPDATE reservations SET status = 'reserved', expires_at = now() + make_interval(secs => seconds)
            WHERE order_id = id;
        DELETE FROM reservation_lines WHERE order_id = id;
    END IF;
    FOR line IN 1 .. cardinality(wanted) LOOP
        -- There is enough, as was seen behind the lock; the table's CHECK would refuse what oversells.
        UPDATE items SET reserved = reserved + quantities[line] WHERE sku = wanted[line];
        INSERT INTO reservation_lines (order_id, sku, quantity) VALUES (id, wanted[line], quantities[line]);
    END LOOP;
END $$;

-- Moves a reservation from one status to another, and with it the stock of its lines, by so many times their quantity.
-- Where its status is not the old one nothing happens.
CREATE FUNCTION move_stock(
    id uuid, old_status text, new_status text, to_shelf int, to_hold int,
    OUT was text,           -- its status before; null: there is no such reservation
    OUT skus text[],        -- its lines, in the order of the SKUs
    OUT quantities bigint[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT status INTO was FROM reservations WHERE order_id = id FOR UPDATE;
    SELECT array_agg(sku ORDER BY sku), array_agg(quantity ORDER BY sku)
        INTO skus, quantities FROM reservation_lines WHERE order_id = id;
    IF was IS DISTINCT FROM old_status THEN
        RETURN;
    END IF;
    UPDATE reservations SET status = new_status WHERE order_id = id;
    FOR line IN 1 .. coalesce(cardinality(skus), 0) LOOP
        UPDATE items SET on_hand = on_hand + to_shelf * quantities[line], reserved = reserved + to_hold * quantities[line]
            WHERE sku = skus[line];
    END LOOP;
END $$;
