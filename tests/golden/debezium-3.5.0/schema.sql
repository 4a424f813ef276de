-- The tables that are no list of values. Wide columns are stored out of line, so that updates can leave them there.
CREATE TYPE mood AS ENUM ('sad', 'so "so"', '');
CREATE DOMAIN money_amount AS numeric(12,2);

CREATE TABLE nothing_but_key (id int PRIMARY KEY);
INSERT INTO nothing_but_key VALUES (1);
CREATE TABLE with_defaults (id int PRIMARY KEY, i int DEFAULT 5, t text DEFAULT 'dflt', n int NOT NULL DEFAULT 7,
  ts timestamptz DEFAULT now(), d numeric(10,2) DEFAULT 1.5);
INSERT INTO with_defaults (id) VALUES (1);
INSERT INTO with_defaults VALUES (2, NULL, NULL, 0, NULL, NULL);
CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, balance numeric(12,2) NOT NULL);
INSERT INTO account VALUES (1, 'ann', 10.00), (2, 'bob', 20.00), (3, 'cyd', 30.00), (4, 'dee', 40.00);
CREATE TABLE altered (id int PRIMARY KEY, gone text NOT NULL, n int);
INSERT INTO altered VALUES (1, 'x', 1);
CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int REFERENCES account (id)
  ON UPDATE CASCADE ON DELETE CASCADE, amount numeric(12,2));
CREATE TABLE composite_key (a int, b text, c uuid, v int, PRIMARY KEY (b, a));
INSERT INTO composite_key VALUES (1, 'x', NULL, 1);
CREATE TABLE typed_key (v int, k1 numeric, k2 timestamptz, k3 bytea, k4 date, k5 bool, k6 float8, k7 mood, k8 uuid,
  PRIMARY KEY (k1, k2, k3, k4, k5, k6, k7, k8));
INSERT INTO typed_key VALUES (1, 1.50, '2024-02-29 12:34:56Z', '\x00ff', '2024-02-29', true, 0.1, 'sad',
  'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11');
CREATE TABLE keyless (a int, b text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
INSERT INTO keyless VALUES (1, 'x'), (1, 'x');
CREATE TABLE toast_default (id int PRIMARY KEY, big text, n int, words text[]);
ALTER TABLE toast_default ALTER big SET STORAGE EXTERNAL, ALTER words SET STORAGE EXTERNAL;
INSERT INTO toast_default VALUES (1, repeat('0123456789', 210), 1, NULL);
CREATE TABLE toast_full (id int PRIMARY KEY, big text, n int);
ALTER TABLE toast_full ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
INSERT INTO toast_full VALUES (1, repeat('0123456789', 210), 1);
CREATE TABLE toast_types (id int PRIMARY KEY, n int,
  c0 text,
  c1 varchar(200),
  c2 char(150),
  c3 bytea,
  c4 json,
  c5 jsonb,
  c6 numeric,
  c7 int2[],
  c8 int4[],
  c9 int8[],
  c10 float8[],
  c11 numeric[],
  c12 bool[],
  c13 text[],
  c14 bytea[],
  c15 uuid[],
  c16 date[],
  c17 time[],
  c18 timestamp[],
  c19 timestamptz[],
  c20 jsonb[],
  c21 mood[])
  WITH (toast_tuple_target = 128);
ALTER TABLE toast_types
  ALTER c0 SET STORAGE EXTERNAL,
  ALTER c1 SET STORAGE EXTERNAL,
  ALTER c2 SET STORAGE EXTERNAL,
  ALTER c3 SET STORAGE EXTERNAL,
  ALTER c4 SET STORAGE EXTERNAL,
  ALTER c5 SET STORAGE EXTERNAL,
  ALTER c6 SET STORAGE EXTERNAL,
  ALTER c7 SET STORAGE EXTERNAL,
  ALTER c8 SET STORAGE EXTERNAL,
  ALTER c9 SET STORAGE EXTERNAL,
  ALTER c10 SET STORAGE EXTERNAL,
  ALTER c11 SET STORAGE EXTERNAL,
  ALTER c12 SET STORAGE EXTERNAL,
  ALTER c13 SET STORAGE EXTERNAL,
  ALTER c14 SET STORAGE EXTERNAL,
  ALTER c15 SET STORAGE EXTERNAL,
  ALTER c16 SET STORAGE EXTERNAL,
  ALTER c17 SET STORAGE EXTERNAL,
  ALTER c18 SET STORAGE EXTERNAL,
  ALTER c19 SET STORAGE EXTERNAL,
  ALTER c20 SET STORAGE EXTERNAL,
  ALTER c21 SET STORAGE EXTERNAL;
INSERT INTO toast_types VALUES (1, 1,
  repeat('x', 150),
  repeat('x', 150),
  'x',
  convert_to(repeat('x', 150), 'UTF8'),
  to_json(repeat('x', 150)),
  to_jsonb(repeat('x', 150)),
  1e300 + 1,
  array_fill(1::int2, '{75}'),
  array_fill(1, '{40}'),
  array_fill(1::int8, '{20}'),
  array_fill(1::float8, '{20}'),
  array_fill(1.5, '{15}'),
  array_fill(true, '{150}'),
  array_fill('x'::text, '{30}'),
  array_fill('x'::bytea, '{30}'),
  array_fill('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid, '{10}'),
  array_fill('2024-02-29'::date, '{40}'),
  array_fill('12:34:56'::time, '{20}'),
  array_fill('2024-02-29'::timestamp, '{20}'),
  array_fill('2024-02-29Z'::timestamptz, '{20}'),
  array_fill('1'::jsonb, '{10}'),
  array_fill('sad'::mood, '{40}'));
CREATE TABLE full_identity (id int PRIMARY KEY, v text);
ALTER TABLE full_identity REPLICA IDENTITY FULL;
INSERT INTO full_identity VALUES (1, 'a');
CREATE TABLE index_identity (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int);
ALTER TABLE index_identity REPLICA IDENTITY USING INDEX index_identity_code_key;
INSERT INTO index_identity VALUES (1, 'one', 1), (2, 'two', 2);
CREATE TABLE unique_only (code text NOT NULL UNIQUE, v int);
ALTER TABLE unique_only REPLICA IDENTITY FULL;
INSERT INTO unique_only VALUES ('one', 1);
CREATE TABLE generated (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO generated VALUES (1, 21);
CREATE TABLE many (id int PRIMARY KEY, v int);
CREATE TABLE many_keyless (v int);
CREATE TABLE "Odd name-é" ("Col umn" int PRIMARY KEY, "q""uote" text);
INSERT INTO "Odd name-é" VALUES (1, 'x');
CREATE TABLE cut_one (id int PRIMARY KEY);
CREATE TABLE cut_two (id int PRIMARY KEY, one int REFERENCES cut_one);
INSERT INTO cut_one VALUES (1);
INSERT INTO cut_two VALUES (1, 1);
