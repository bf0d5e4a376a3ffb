-- Work is claimed by tenant: an engine never takes what another engine on the same database must do.
-- What let a worker see all tenants' work (the policies on `work`) stays until no running version uses it.

CREATE INDEX work_due_of_tenant ON work (tenant, due, position) WHERE state <> 'done';
