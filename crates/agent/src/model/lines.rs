//! Where one event of an answer ends and the next one begins.

use clawgate_core::turn::Failure;

use super::failure;

/// How events follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Sse,
    /// A JSON value a line.
    Lines,
}

/// Cuts an answer into events as it comes in. What it holds is bounded; each byte is looked at once.
#[derive(Debug)]
pub(super) struct Frames {
    framing: Framing,
    line: Vec<u8>,
    data: String,
    has_data: bool,
    bound: usize,
}

impl Frames {
    /// With a bound on one event, bytes.
    pub(super) fn new(framing: Framing, bound: usize) -> Self {
        Self {
            framing,
            line: Vec::new(),
            data: String::new(),
            has_data: false,
            bound,
        }
    }

    /// The next event that is whole with what came in, of which that much is taken; none when all of
    /// it is taken. One at a time, so that what is wrong with the bytes behind an event does not
    /// depend on where the transfer was cut.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<String>, Failure> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end])?;
            *bytes = &bytes[end + 1..];
            if let Some(event) = self.end_line()? {
                return Ok(Some(event));
            }
        }
        self.extend(std::mem::take(bytes))?;
        Ok(None)
    }

    /// What is left at the end, should it be an event that only lacks its end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let whole = self.end_line().ok()?;
        whole.or_else(|| self.event())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.line.len() + self.data.len() + bytes.len() > self.bound {
            return Err(failure::too_large(self.bound));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<String>, Failure> {
        let line = std::str::from_utf8(&self.line).map_err(failure::malformed)?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let event = match self.framing {
            Framing::Lines => (!line.trim().is_empty()).then(|| line.to_owned()),
            Framing::Sse if line.is_empty() => self.event(),
            Framing::Sse => {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                if field == "data" {
                    if self.has_data {
                        self.data.push('\n');
                    }
                    self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
                    self.has_data = true;
                }
                None
            }
        };
        self.line.clear();
        Ok(event)
    }

    fn event(&mut self) -> Option<String> {
        std::mem::take(&mut self.has_data).then(|| std::mem::take(&mut self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(frames: &mut Frames, mut bytes: &[u8]) -> Result<Vec<String>, Failure> {
        std::iter::from_fn(|| frames.next(&mut bytes).transpose()).collect()
    }

    #[test]
    fn events_are_the_same_wherever_the_transfer_is_cut() {
        let text = ": hello\r\nevent: a\r\ndata: {\"ü\":1}\r\n\r\ndata: x\ndata:y\n\n\n\nid: 3\n\ndata: end";
        for size in 1..=text.len() {
            let mut frames = Frames::new(Framing::Sse, 100);
            let mut events = Vec::new();
            for part in text.as_bytes().chunks(size) {
                events.extend(push(&mut frames, part).unwrap());
            }
            assert_eq!(events, ["{\"ü\":1}", "x\ny"], "{size}");
            assert_eq!(frames.rest().as_deref(), Some("end"), "{size}");
        }
    }

    #[test]
    fn lines_are_events_where_the_protocol_has_no_others() {
        let mut frames = Frames::new(Framing::Lines, 100);
        assert_eq!(push(&mut frames, b"{}\r\n\n[1]\n{").unwrap(), ["{}", "[1]"]);
        assert_eq!(frames.rest().as_deref(), Some("{"));
        assert_eq!(frames.rest(), None);
    }

    #[test]
    fn an_event_has_a_bound_however_it_comes() {
        for text in ["x".repeat(200), "data: 123456789\n".repeat(20)] {
            let mut frames = Frames::new(Framing::Sse, 100);
            let whole: Result<Vec<_>, _> = text
                .as_bytes()
                .chunks(7)
                .map(|part| push(&mut frames, part))
                .collect();
            assert!(whole.is_err());
        }
        let mut frames = Frames::new(Framing::Sse, 100);
        assert!(push(&mut frames, b"data: \xff\n").is_err());
    }
}
