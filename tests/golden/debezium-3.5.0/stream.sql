-- What is streamed: one transaction each, in this order, after the values of values.toml in one.

BEGIN;
  INSERT INTO nulls VALUES (101);
COMMIT;

BEGIN;
  DELETE FROM required;
COMMIT;

BEGIN;
  INSERT INTO account VALUES (10, 'eve', 1);
COMMIT;

BEGIN;
  UPDATE account SET balance = balance + 1 WHERE id = 1;
COMMIT;

BEGIN;
  UPDATE account SET id = 20 WHERE id = 2;
COMMIT;

BEGIN;
  DELETE FROM account WHERE id = 3;
COMMIT;

-- several tables, rows changed twice, a key change, a cascade
BEGIN;
  INSERT INTO account VALUES (30, 'fay', 5);
  INSERT INTO ledger (account, amount) VALUES (30, 5), (1, -5);
  UPDATE account SET balance = 0 WHERE id = 30;
  UPDATE account SET id = 31 WHERE id = 30;
  DELETE FROM account WHERE id = 31;
COMMIT;

BEGIN;
  INSERT INTO with_defaults (id) VALUES (3);
  INSERT INTO with_defaults VALUES (4, NULL, NULL, 0, NULL, NULL);
COMMIT;

BEGIN;
  UPDATE with_defaults SET i = NULL, t = NULL, ts = NULL, d = NULL WHERE id = 3;
COMMIT;

BEGIN;
  DELETE FROM with_defaults WHERE id = 3;
COMMIT;

BEGIN;
  INSERT INTO composite_key VALUES (2, 'y', NULL, 1);
  UPDATE composite_key SET v = 2 WHERE a = 2;
  UPDATE composite_key SET b = 'z' WHERE a = 2;
  DELETE FROM composite_key;
COMMIT;

BEGIN;
  UPDATE typed_key SET v = 2;
  DELETE FROM typed_key;
COMMIT;

BEGIN;
  INSERT INTO keyless VALUES (2, 'y');
  UPDATE keyless SET b = NULL WHERE a = 2;
  DELETE FROM keyless WHERE a = 1;
COMMIT;

BEGIN;
  INSERT INTO toast_default VALUES (2, repeat('0123456789', 210), 1, ARRAY[repeat('0123456789', 210)]);
COMMIT;

BEGIN;
  UPDATE toast_default SET n = 2;
COMMIT;

BEGIN;
  UPDATE toast_default SET id = 3 WHERE id = 2;
COMMIT;

BEGIN;
  UPDATE toast_full SET n = 2;
COMMIT;

BEGIN;
  DELETE FROM toast_default WHERE id = 1;
COMMIT;

BEGIN;
  UPDATE toast_types SET n = 2;
COMMIT;

BEGIN;
  UPDATE full_identity SET v = 'b';
  UPDATE full_identity SET id = 2;
  DELETE FROM full_identity;
COMMIT;

BEGIN;
  UPDATE index_identity SET v = 3 WHERE id = 1;
COMMIT;

BEGIN;
  UPDATE index_identity SET id = 5 WHERE id = 1;
COMMIT;

BEGIN;
  UPDATE index_identity SET code = 'uno' WHERE id = 5;
COMMIT;

BEGIN;
  DELETE FROM index_identity WHERE id = 5;
COMMIT;

BEGIN;
  UPDATE unique_only SET v = 2;
  UPDATE unique_only SET code = 'uno';
  DELETE FROM unique_only;
COMMIT;

BEGIN;
  INSERT INTO generated VALUES (2, 4);
COMMIT;

BEGIN;
  INSERT INTO nothing_but_key VALUES (2);
  UPDATE nothing_but_key SET id = 3 WHERE id = 2;
COMMIT;

BEGIN;
  INSERT INTO many SELECT i, i FROM generate_series(1, 12) i;
COMMIT;

BEGIN;
  INSERT INTO many_keyless SELECT i FROM generate_series(1, 8) i;
COMMIT;

BEGIN;
  INSERT INTO "Odd name-é" VALUES (2, 'y');
COMMIT;

BEGIN;
  TRUNCATE nothing_but_key;
COMMIT;

BEGIN;
  TRUNCATE cut_one CASCADE;
COMMIT;

BEGIN;
  SELECT pg_logical_emit_message(true, 'note', 'in a transaction');
COMMIT;

BEGIN;
  SELECT pg_logical_emit_message(false, 'note', 'outside');
COMMIT;

BEGIN;
  SELECT pg_logical_emit_message(true, 'mixed', 'x');
  INSERT INTO account VALUES (40, 'gus', 1);
COMMIT;

BEGIN;
  SELECT pg_logical_emit_message(true, '', '');
COMMIT;

BEGIN;
  CREATE TABLE empty_transaction (id int PRIMARY KEY);
COMMIT;

BEGIN;
  INSERT INTO account VALUES (50, 'hal', 1);
  SAVEPOINT s;
  INSERT INTO account VALUES (51, 'ivy', 1);
  ROLLBACK TO s;
  INSERT INTO account VALUES (52, 'jon', 1);
COMMIT;

BEGIN;
  UPDATE account SET owner = owner WHERE id = 1;
COMMIT;

BEGIN;
  ALTER TABLE altered ADD COLUMN extra text DEFAULT 'was';
  UPDATE altered SET n = 2;
  ALTER TABLE altered DROP COLUMN gone;
  UPDATE altered SET n = 3;
COMMIT;
