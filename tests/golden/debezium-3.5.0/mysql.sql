CREATE TABLE account (
  id bigint unsigned NOT NULL AUTO_INCREMENT,
  part varchar(10) NOT NULL,
  paid tinyint(1) NOT NULL,
  small smallint unsigned,
  medium mediumint,
  whole int unsigned,
  amount decimal(12,2),
  single float,
  twice double,
  flag bit(1),
  bits bit(12),
  made year,
  born date,
  at datetime,
  at_ms datetime(3),
  changed timestamp NULL,
  changed_us timestamp(6) NULL,
  lasted time(2),
  code char(4),
  note text,
  latin varchar(10) CHARACTER SET latin1,
  raw binary(4),
  data blob,
  mood enum('sad', 'so ''so'''),
  tags set('x', 'y', 'z'),
  details json,
  PRIMARY KEY (part, id),
  KEY (id)
) COMMENT 'accounts' DEFAULT CHARSET utf8mb4;
-- the stream
START TRANSACTION;
INSERT INTO account VALUES (1, 'é', 1, 65535, -8388608, 4294967295, -1234.50, 0.1, 1e-7, 1, b'101000000011', 1999,
  '2024-02-29', '2024-02-29 12:34:56', '2024-02-29 12:34:56.780', '2024-02-29 12:34:56', '2024-02-29 12:34:56.789012',
  '23:59:59.99', 'ab', 'text', 'é', x'00ff', x'00ff', 'so ''so''', 'x,z', '{"b": [1, "x", null, 2.50], "a": {"t": true}}');
INSERT INTO account (id, part, paid) VALUES (2, 'b', 0);
COMMIT;
UPDATE account SET amount = 0.05, note = NULL, lasted = '-01:00:00.50' WHERE id = 1;
UPDATE account SET id = 3 WHERE id = 2;
START TRANSACTION;
DELETE FROM account WHERE id = 3;
DELETE FROM account WHERE id = 1;
COMMIT;
ALTER TABLE account ADD COLUMN added int NOT NULL DEFAULT 7;
INSERT INTO account (id, part, paid) VALUES (18446744073709551615, 'c', 2);
TRUNCATE account;
