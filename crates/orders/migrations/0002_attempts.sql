-- How often an order was taken up in vain: the worker waits longer each time.
ALTER TABLE orders ADD COLUMN attempts int NOT NULL DEFAULT 0;
