-- When a payload was put, and the write-back it belongs to: what retention counts from. Payloads that were there
-- before count from now on, and from when their write-back ended.

ALTER TABLE payload ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE payload ADD COLUMN writeback TEXT;
UPDATE payload SET at = CAST(strftime('%s', 'now') AS INTEGER) * 1000000;

CREATE INDEX payload_aged ON payload (tenant, class, at);
CREATE INDEX work_done ON work (tenant, due) WHERE state = 'done';
