-- How many rows the large tables have, by organization and state, so that the total of a list is read
-- and not counted. Nobody writes here but the triggers below. They are the one thing of this schema
-- that PostgreSQL writes in other words.
CREATE TABLE totals (
    of_table TEXT NOT NULL,
    org_id TEXT NOT NULL,
    -- Empty where rows have none.
    state TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (of_table, org_id, state)
);

INSERT INTO totals SELECT 'service_accounts', org_id, state, COUNT(*) FROM service_accounts
    GROUP BY org_id, state;
INSERT INTO totals SELECT 'api_keys', org_id, state, COUNT(*) FROM api_keys GROUP BY org_id, state;
INSERT INTO totals SELECT 'role_bindings', org_id, '', COUNT(*) FROM role_bindings GROUP BY org_id;

CREATE TRIGGER service_accounts_come AFTER INSERT ON service_accounts BEGIN
    INSERT INTO totals VALUES ('service_accounts', NEW.org_id, NEW.state, 1)
        ON CONFLICT DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER service_accounts_change AFTER UPDATE OF state ON service_accounts
WHEN NEW.state <> OLD.state BEGIN
    UPDATE totals SET total = total - 1
        WHERE of_table = 'service_accounts' AND org_id = OLD.org_id AND state = OLD.state;
    INSERT INTO totals VALUES ('service_accounts', NEW.org_id, NEW.state, 1)
        ON CONFLICT DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER service_accounts_go AFTER DELETE ON service_accounts BEGIN
    UPDATE totals SET total = total - 1
        WHERE of_table = 'service_accounts' AND org_id = OLD.org_id AND state = OLD.state;
END;

CREATE TRIGGER api_keys_come AFTER INSERT ON api_keys BEGIN
    INSERT INTO totals VALUES ('api_keys', NEW.org_id, NEW.state, 1)
        ON CONFLICT DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER api_keys_change AFTER UPDATE OF state ON api_keys
WHEN NEW.state <> OLD.state BEGIN
    UPDATE totals SET total = total - 1
        WHERE of_table = 'api_keys' AND org_id = OLD.org_id AND state = OLD.state;
    INSERT INTO totals VALUES ('api_keys', NEW.org_id, NEW.state, 1)
        ON CONFLICT DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER api_keys_go AFTER DELETE ON api_keys BEGIN
    UPDATE totals SET total = total - 1
        WHERE of_table = 'api_keys' AND org_id = OLD.org_id AND state = OLD.state;
END;

CREATE TRIGGER role_bindings_come AFTER INSERT ON role_bindings BEGIN
    INSERT INTO totals VALUES ('role_bindings', NEW.org_id, '', 1)
        ON CONFLICT DO UPDATE SET total = total + 1;
END;
CREATE TRIGGER role_bindings_go AFTER DELETE ON role_bindings BEGIN
    UPDATE totals SET total = total - 1
        WHERE of_table = 'role_bindings' AND org_id = OLD.org_id AND state = '';
END;
