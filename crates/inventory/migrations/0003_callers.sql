-- Whose key it is. Null: of nobody who is known; it answers all. The first caller's receipt is under the key itself, where
-- replicas of the version before find it; another caller's with the same key under the caller's name, a line feed, and the
-- key, which is no key that can be sent.
ALTER TABLE receipts ADD COLUMN caller text;
