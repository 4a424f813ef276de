--
-- PostgreSQL database dump
--

\restrict AS0a4kKgpmakcJC5RLX8xpRtsCIEzzBBq3cvgQh9hBtwT0tVlvr8JxNYrYsuyhr

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
-- Name: Name: x Name: x_pkey; Type: CONSTRAINT; Schema: Odd; Type: TABLE; Owner: -
--

ALTER TABLE ONLY "Odd; Type: TABLE"."Name: x"
    ADD CONSTRAINT "Name: x_pkey" PRIMARY KEY (id);


--
-- Name: accounts accounts_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (at, id);


--
-- Name: events_2026 events_2026_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.events_2026
    ADD CONSTRAINT events_2026_pkey PRIMARY KEY (at, id);


--
-- Name: events_rest events_rest_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.events_rest
    ADD CONSTRAINT events_rest_pkey PRIMARY KEY (at, id);


--
-- Name: parent parent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.parent
    ADD CONSTRAINT parent_pkey PRIMARY KEY (id);


--
-- Name: accounts_lower; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX accounts_lower ON public.accounts USING btree (lower((owner)::text)) WHERE ((owner)::text <> '--'::text);


--
-- Name: events_2026_pkey; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.events_pkey ATTACH PARTITION public.events_2026_pkey;


--
-- Name: events_rest_pkey; Type: INDEX ATTACH; Schema: public; Owner: -
--

ALTER INDEX public.events_pkey ATTACH PARTITION public.events_rest_pkey;


--
-- Name: related; Type: STATISTICS; Schema: odd; Owner: -
--

CREATE STATISTICS odd.related ON at, id FROM public.events;


--
-- Name: parent loud; Type: RULE; Schema: public; Owner: -
--

CREATE RULE loud AS
    ON UPDATE TO public.parent DO ( SELECT 1 AS "?column?";
 SELECT '--'::text AS "?column?";
);


--
-- Name: happy quiet; Type: RULE; Schema: public; Owner: -
--

CREATE RULE quiet AS
    ON DELETE TO public.happy DO INSTEAD NOTHING;


--
-- Name: accounts touched; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER touched BEFORE UPDATE ON public.accounts FOR EACH ROW WHEN (((old.owner)::text IS DISTINCT FROM '"'::text)) EXECUTE FUNCTION odd.touch('$1', 'it''s');

ALTER TABLE public.accounts DISABLE TRIGGER touched;


--
-- Name: Name: x Name: x_account_fkey; Type: FK CONSTRAINT; Schema: Odd; Type: TABLE; Owner: -
--

ALTER TABLE ONLY "Odd; Type: TABLE"."Name: x"
    ADD CONSTRAINT "Name: x_account_fkey" FOREIGN KEY (account) REFERENCES public.accounts(id);


--
-- Name: accounts; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.accounts ENABLE ROW LEVEL SECURITY;

--
-- Name: accounts own; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY own ON public.accounts USING (((owner)::text = CURRENT_USER));


--
-- Name: cdc_shop; Type: PUBLICATION; Schema: -; Owner: -
--

CREATE PUBLICATION cdc_shop WITH (publish = 'insert, update, delete, truncate');


--
-- Name: PUBLICATION cdc_shop; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON PUBLICATION cdc_shop IS 'ours';


--
-- Name: cdc_shop two; Type: PUBLICATION; Schema: -; Owner: -
--

CREATE PUBLICATION "cdc_shop two" WITH (publish = 'insert, update, delete, truncate');


--
-- Name: theirs; Type: PUBLICATION; Schema: -; Owner: -
--

CREATE PUBLICATION theirs WITH (publish = 'insert, update, delete, truncate');


--
-- Name: cdc_shop accounts; Type: PUBLICATION TABLE; Schema: public; Owner: -
--

ALTER PUBLICATION cdc_shop ADD TABLE ONLY public.accounts;


--
-- Name: theirs accounts; Type: PUBLICATION TABLE; Schema: public; Owner: -
--

ALTER PUBLICATION theirs ADD TABLE ONLY public.accounts WHERE ((id > 0));


--
-- Name: cdc_shop child; Type: PUBLICATION TABLE; Schema: public; Owner: -
--

ALTER PUBLICATION cdc_shop ADD TABLE ONLY public.child;


--
-- Name: cdc_shop parent; Type: PUBLICATION TABLE; Schema: public; Owner: -
--

ALTER PUBLICATION cdc_shop ADD TABLE ONLY public.parent;


--
-- Name: theirs odd; Type: PUBLICATION TABLES IN SCHEMA; Schema: odd; Owner: -
--

ALTER PUBLICATION theirs ADD TABLES IN SCHEMA odd;


--
-- Name: cdc_shop two public; Type: PUBLICATION TABLES IN SCHEMA; Schema: public; Owner: -
--

ALTER PUBLICATION "cdc_shop two" ADD TABLES IN SCHEMA public;


--
-- Name: cdc_ddl; Type: EVENT TRIGGER; Schema: -; Owner: -
--

CREATE EVENT TRIGGER cdc_ddl ON ddl_command_end
   EXECUTE FUNCTION cdc.on_ddl();

ALTER EVENT TRIGGER cdc_ddl ENABLE ALWAYS;


--
-- Name: cdc_drop; Type: EVENT TRIGGER; Schema: -; Owner: -
--

CREATE EVENT TRIGGER cdc_drop ON sql_drop
   EXECUTE FUNCTION cdc.on_drop();

ALTER EVENT TRIGGER cdc_drop ENABLE ALWAYS;


--
-- Name: cdc_rewrite; Type: EVENT TRIGGER; Schema: -; Owner: -
--

CREATE EVENT TRIGGER cdc_rewrite ON table_rewrite
   EXECUTE FUNCTION cdc.on_rewrite();

ALTER EVENT TRIGGER cdc_rewrite ENABLE ALWAYS;


--
-- Name: cdc_watch; Type: EVENT TRIGGER; Schema: -; Owner: -
--

CREATE EVENT TRIGGER cdc_watch ON ddl_command_end
   EXECUTE FUNCTION odd.watch();


--
-- PostgreSQL database dump complete
--

\unrestrict AS0a4kKgpmakcJC5RLX8xpRtsCIEzzBBq3cvgQh9hBtwT0tVlvr8JxNYrYsuyhr

