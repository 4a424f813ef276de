--
-- PostgreSQL database dump
--

\restrict FLSLEJ9GcCapiVbMZzoSxCQf83mWoha1IhTK6wJS08PzAXEKJOviNJelQ5XdW2c

-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: Odd; Type: TABLE; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA "Odd; Type: TABLE";


--
-- Name: odd; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA odd;


--
-- Name: SCHEMA odd; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA odd IS 'a comment
--
-- Name: liar; Type: TABLE; Schema: public; Owner: -
--

with ''quotes'' and \';


--
-- Name: plain; Type: COLLATION; Schema: odd; Owner: -
--

CREATE COLLATION odd.plain (provider = libc, locale = 'C');


--
-- Name: citext; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA odd;


--
-- Name: EXTENSION citext; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON EXTENSION citext IS 'data type for case-insensitive character strings';


--
-- Name: even; Type: DOMAIN; Schema: public; Owner: -
--

CREATE DOMAIN public.even AS integer
	CONSTRAINT even_check CHECK (((VALUE % 2) = 0));


--
-- Name: mood; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.mood AS ENUM (
    'fine',
    'it''s',
    'two
lines',
    '--'
);


--
-- Name: pair; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.pair AS (
	a integer,
	b text
);


--
-- Name: modern(integer); Type: FUNCTION; Schema: odd; Owner: -
--

CREATE FUNCTION odd.modern(n integer) RETURNS integer
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT length('; -- $$ '' '::text) AS length;
 SELECT (n + 1);
END;


--
-- Name: touch(); Type: FUNCTION; Schema: odd; Owner: -
--

CREATE FUNCTION odd.touch() RETURNS trigger
    LANGUAGE plpgsql
    AS $$BEGIN RETURN NEW; END$$;


--
-- Name: tricky(integer, text); Type: FUNCTION; Schema: odd; Owner: -
--

CREATE FUNCTION odd.tricky(a integer, "b c" text DEFAULT '--'::text) RETURNS text
    LANGUAGE plpgsql
    AS $_$
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
$_$;


--
-- Name: watch(); Type: FUNCTION; Schema: odd; Owner: -
--

CREATE FUNCTION odd.watch() RETURNS event_trigger
    LANGUAGE plpgsql
    AS $$BEGIN END$$;


--
-- Name: work(); Type: PROCEDURE; Schema: odd; Owner: -
--

CREATE PROCEDURE odd.work()
    LANGUAGE sql
    AS $$SELECT 1; -- it's all$$;


--
-- Name: total(integer); Type: AGGREGATE; Schema: odd; Owner: -
--

CREATE AGGREGATE odd.total(integer) (
    SFUNC = int4pl,
    STYPE = integer,
    INITCOND = '0'
);


--
-- Name: heap_too; Type: ACCESS METHOD; Schema: -; Owner: -
--

CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;


--
-- Name: @-@; Type: OPERATOR; Schema: odd; Owner: -
--

CREATE OPERATOR odd.@-@ (
    FUNCTION = int4mi,
    LEFTARG = integer,
    RIGHTARG = integer
);


--
-- Name: words; Type: TEXT SEARCH CONFIGURATION; Schema: odd; Owner: -
--

CREATE TEXT SEARCH CONFIGURATION odd.words (
    PARSER = pg_catalog."default" );

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR asciiword WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR word WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR numword WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR email WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR url WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR host WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR sfloat WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR version WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR hword_numpart WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR hword_part WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR hword_asciipart WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR numhword WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR asciihword WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR hword WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR url_path WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR file WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR "float" WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR "int" WITH simple;

ALTER TEXT SEARCH CONFIGURATION odd.words
    ADD MAPPING FOR uint WITH simple;


--
-- Name: nowhere; Type: FOREIGN DATA WRAPPER; Schema: -; Owner: -
--

CREATE FOREIGN DATA WRAPPER nowhere;


--
-- Name: far; Type: SERVER; Schema: -; Owner: -
--

CREATE SERVER far FOREIGN DATA WRAPPER nowhere OPTIONS (
    host 'it''s'
);


SET default_table_access_method = heap;

--
-- Name: Name: x; Type: TABLE; Schema: Odd; Type: TABLE; Owner: -
--

CREATE TABLE "Odd; Type: TABLE"."Name: x" (
    id bigint NOT NULL,
    account integer
);


--
-- Name: Name: x_id_seq; Type: SEQUENCE; Schema: Odd; Type: TABLE; Owner: -
--

CREATE SEQUENCE "Odd; Type: TABLE"."Name: x_id_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: Name: x_id_seq; Type: SEQUENCE OWNED BY; Schema: Odd; Type: TABLE; Owner: -
--

ALTER SEQUENCE "Odd; Type: TABLE"."Name: x_id_seq" OWNED BY "Odd; Type: TABLE"."Name: x".id;


--
-- Name: numbers; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.numbers
    START WITH 1000
    INCREMENT BY 10
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: a; b "c" $$ ' d; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public."a; b ""c"" $$ ' d" (
    "a -- b" text,
    "x
-- Name: liar; Type: TABLE; Schema: public; Owner: -
y" integer DEFAULT nextval('public.numbers'::regclass)
);


--
-- Name: accounts; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.accounts (
    id integer NOT NULL,
    owner odd.citext DEFAULT '$$ ''\'::odd.citext NOT NULL,
    mood public.mood DEFAULT 'two
lines'::public.mood,
    even public.even,
    twice integer GENERATED ALWAYS AS (((even)::integer * 2)) STORED,
    CONSTRAINT strange CHECK (((owner)::text <> '
--
-- Name: liar; Type: TABLE; Schema: public; Owner: -
--
'::text))
);


--
-- Name: TABLE accounts; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.accounts IS '/* not closed';


--
-- Name: COLUMN accounts.owner; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.accounts.owner IS 'a column''s comment; DROP TABLE x; /* -- $$ "';


--
-- Name: accounts_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.accounts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.accounts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: cache; Type: TABLE; Schema: public; Owner: -
--

CREATE UNLOGGED TABLE public.cache (
    id integer
);


--
-- Name: parent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.parent (
    id integer NOT NULL
);


--
-- Name: child; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.child (
    more text
)
INHERITS (public.parent);


--
-- Name: counts; Type: MATERIALIZED VIEW; Schema: public; Owner: -
--

CREATE MATERIALIZED VIEW public.counts AS
 SELECT count(*) AS n
   FROM public.accounts
  WITH NO DATA;


--
-- Name: events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.events (
    at date NOT NULL,
    id integer NOT NULL,
    note text COLLATE pg_catalog."C"
)
PARTITION BY RANGE (at);


--
-- Name: events_2026; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.events_2026 (
    at date CONSTRAINT events_at_not_null NOT NULL,
    id integer CONSTRAINT events_id_not_null NOT NULL,
    note text COLLATE pg_catalog."C"
);


--
-- Name: events_rest; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.events_rest (
    at date CONSTRAINT events_at_not_null NOT NULL,
    id integer CONSTRAINT events_id_not_null NOT NULL,
    note text COLLATE pg_catalog."C"
);


--
-- Name: happy; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.happy AS
 SELECT id,
    owner,
    '\$$'''::text AS "quote "" d"
   FROM public.accounts
  WHERE (mood = 'fine'::public.mood);


--
-- Name: happier; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.happier AS
 SELECT id,
    owner,
    "quote "" d"
   FROM public.happy;


SET default_table_access_method = heap_too;

--
-- Name: other_method; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.other_method (
    id integer
);


--
-- Name: remote; Type: FOREIGN TABLE; Schema: public; Owner: -
--

CREATE FOREIGN TABLE public.remote (
    id integer
)
SERVER far;


SET default_table_access_method = heap;

--
-- Name: same_method; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.same_method (
    id integer
);


--
-- Name: events_2026; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.events ATTACH PARTITION public.events_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');


--
-- Name: events_rest; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.events ATTACH PARTITION public.events_rest DEFAULT;


--
-- Name: Name: x id; Type: DEFAULT; Schema: Odd; Type: TABLE; Owner: -
--

ALTER TABLE ONLY "Odd; Type: TABLE"."Name: x" ALTER COLUMN id SET DEFAULT nextval('"Odd; Type: TABLE"."Name: x_id_seq"'::regclass);


--
-- PostgreSQL database dump complete
--

\unrestrict FLSLEJ9GcCapiVbMZzoSxCQf83mWoha1IhTK6wJS08PzAXEKJOviNJelQ5XdW2c

