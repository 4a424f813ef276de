CREATE SCHEMA odd;
CREATE SCHEMA "Odd; Type: TABLE";
CREATE EXTENSION citext SCHEMA odd;
COMMENT ON SCHEMA odd IS E'a comment\n--\n-- Name: liar; Type: TABLE; Schema: public; Owner: -\n--\n\nwith ''quotes'' and \\';
CREATE TYPE public.mood AS ENUM ('fine', 'it''s', E'two\nlines', '--');
CREATE DOMAIN public.even AS integer CHECK (VALUE % 2 = 0);
CREATE TYPE public.pair AS (a integer, b text);
CREATE SEQUENCE public.numbers START 1000 INCREMENT BY 10;
CREATE TABLE public.accounts (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner odd.citext NOT NULL DEFAULT E'$$ ''\\',
  mood public.mood DEFAULT E'two\nlines',
  even public.even,
  twice integer GENERATED ALWAYS AS (even * 2) STORED,
  CONSTRAINT strange CHECK (owner <> E'\n--\n-- Name: liar; Type: TABLE; Schema: public; Owner: -\n--\n'));
COMMENT ON COLUMN public.accounts.owner IS 'a column''s comment; DROP TABLE x; /* -- $$ "';
COMMENT ON TABLE public.accounts IS '/* not closed';
CREATE TABLE public."a; b ""c"" $$ ' d" ("a -- b" text, "x
-- Name: liar; Type: TABLE; Schema: public; Owner: -
y" integer DEFAULT nextval('public.numbers'));
CREATE TABLE "Odd; Type: TABLE"."Name: x" (id bigserial PRIMARY KEY, account integer REFERENCES public.accounts);
CREATE TABLE public.events (at date NOT NULL, id integer NOT NULL, note text COLLATE "C", PRIMARY KEY (at, id))
  PARTITION BY RANGE (at);
CREATE TABLE public.events_2026 PARTITION OF public.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.events_rest PARTITION OF public.events DEFAULT;
CREATE TABLE public.parent (id integer PRIMARY KEY);
CREATE TABLE public.child (more text) INHERITS (public.parent);
CREATE UNLOGGED TABLE public.cache (id integer);
CREATE INDEX accounts_lower ON public.accounts (lower(owner::text)) WHERE owner::text <> '--';
CREATE STATISTICS odd.related ON at, id FROM public.events;
CREATE FUNCTION odd.tricky(a integer, "b c" text DEFAULT '--') RETURNS text LANGUAGE plpgsql AS $outer$
DECLARE
  quoted text := $$ inner ' $$;
  a$body$ text := 'a dollar in a name';
BEGIN
  /* nested /* comment */ ' */
  RETURN $in$
--
-- Name: liar; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE liar ();
$in$;
END
$outer$;
CREATE FUNCTION odd.modern(n integer) RETURNS integer LANGUAGE sql
BEGIN ATOMIC
  SELECT length('; -- $$ '' ');
  SELECT n + 1;
END;
CREATE PROCEDURE odd.work() LANGUAGE sql AS 'SELECT 1; -- it''s all';
CREATE FUNCTION odd.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON public.accounts FOR EACH ROW
  WHEN (OLD.owner::text IS DISTINCT FROM '"') EXECUTE FUNCTION odd.touch('$1', 'it''s');
ALTER TABLE public.accounts DISABLE TRIGGER touched;
CREATE VIEW public.happy AS SELECT id, owner, E'\\$$''' AS "quote "" d" FROM public.accounts WHERE mood = 'fine';
CREATE VIEW public.happier AS SELECT * FROM public.happy;
CREATE MATERIALIZED VIEW public.counts AS SELECT count(*) AS n FROM public.accounts;
CREATE RULE quiet AS ON DELETE TO public.happy DO INSTEAD NOTHING;
CREATE RULE loud AS ON UPDATE TO public.parent DO ALSO (SELECT 1; SELECT '--');
ALTER TABLE public.accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.accounts USING (owner = CURRENT_USER);
CREATE AGGREGATE odd.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE OPERATOR odd.@-@ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4mi);
CREATE COLLATION odd.plain (provider = libc, locale = 'C');
CREATE TEXT SEARCH CONFIGURATION odd.words (COPY = simple);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere OPTIONS (host 'it''s');
CREATE FOREIGN TABLE public.remote (id integer) SERVER far;
CREATE FUNCTION odd.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER cdc_watch ON ddl_command_end EXECUTE FUNCTION odd.watch();
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE public.other_method (id integer) USING heap_too;
CREATE TABLE public.same_method (id integer);
CREATE PUBLICATION theirs FOR TABLE public.accounts WHERE (id > 0), TABLES IN SCHEMA odd;
CREATE PUBLICATION cdc_shop FOR TABLE public.accounts, public.parent;
COMMENT ON PUBLICATION cdc_shop IS 'ours';
CREATE PUBLICATION "cdc_shop two" FOR TABLES IN SCHEMA public;
