-- Work is claimed by tenant: an engine never takes what another engine on the same database must do.

CREATE INDEX work_due_of_tenant ON work (tenant, due, position) WHERE state <> 'done';
