-- When a payload was put, and the write-back it belongs to: what retention counts from. Payloads that were there
-- before count from now on, and from when their write-back ended. The default is for versions that run beside this
-- one and do not name the column.

ALTER TABLE payload ADD COLUMN at BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000000)::bigint;
ALTER TABLE payload ADD COLUMN writeback TEXT COLLATE "C";

CREATE INDEX payload_aged ON payload (tenant, class, at);
CREATE INDEX work_done ON work (tenant, due) WHERE state = 'done';
