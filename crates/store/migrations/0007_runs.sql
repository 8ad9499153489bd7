-- Runs of turns: what was asked for until it is over, so that one that was accepted and did not begin
-- begins after a restart; and what came of it, so that the same key gets the same answer.
ALTER TABLE session_runs ADD COLUMN request TEXT;
ALTER TABLE session_runs ADD COLUMN started_at_ms INTEGER;
ALTER TABLE session_runs ADD COLUMN result TEXT;
CREATE INDEX session_runs_under_way ON session_runs (claimed_at_ms) WHERE ended_at_ms IS NULL;

-- What a run of a turn says besides: its session, its model, what it used, as JSON.
ALTER TABLE cron_runs ADD COLUMN about TEXT;

-- What was said before a message that is the first one still told to a model.
ALTER TABLE transcripts ADD COLUMN summary TEXT;
ALTER TABLE transcripts ADD COLUMN told_from INTEGER;
